//! Which CA the certificates of a chain lead to, for enrollment.
//!
//! Enrollment is trust on first use, so it does not ask [`verify`](super::verify) whether a
//! certificate is trusted. It asks which of the posted CAs signed the posted certificate, and
//! whether all of them are valid now. The configuration that it stores is verified like any other.

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

/// The path from the first certificate of `chain`, each signed by the next one, to one of
/// `anchors`.
///
/// webpki is not used, because it does not parse X.509 version 1. `openssl x509 -req` makes version
/// 1 if it is given no extensions.
pub(crate) fn path<'a, 'b>(
    chain: &'b [X509Certificate<'a>],
    anchors: &'b [X509Certificate<'a>],
) -> Option<Vec<&'b X509Certificate<'a>>> {
    let mut path = Vec::new();
    for (at, certificate) in chain.iter().enumerate() {
        path.push(certificate);
        if let Some(anchor) = anchors
            .iter()
            .find(|anchor| may_sign(anchor, Silence::Yes) && signed(certificate, anchor))
        {
            path.push(anchor);
            return Some(path);
        }
        chain
            .get(at + 1)
            .filter(|next| may_sign(next, Silence::No) && signed(certificate, next))?;
    }
    None
}

/// What a missing basicConstraints extension means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// The certificate may sign: it is a CA that OpenSSL made without extensions.
    Yes,
    /// The certificate may not sign: it is an agent's certificate that OpenSSL made without
    /// extensions.
    No,
}

fn may_sign(certificate: &X509Certificate<'_>, silence: Silence) -> bool {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => silence == Silence::Yes,
        Err(_) => false,
    }
}

fn signed(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether `now` is in the validity of the certificate.
pub(crate) fn is_valid_at(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> bool {
    let (validity, now) = (certificate.validity(), now.unix_timestamp());
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use time::Duration;
    use x509_parser::parse_x509_certificate;

    use super::*;
    use crate::tls::fixtures::{Authority, authority, copy, issued, now, params};

    const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

    fn parsed<'a>(all: &[&'a Authority]) -> Vec<X509Certificate<'a>> {
        all.iter().map(|it| parse_x509_certificate(it.der()).unwrap().1).collect()
    }

    /// The subjects of the path, or an empty text.
    fn found(chain: &[&Authority], anchors: &[&Authority]) -> String {
        let (chain, anchors) = (parsed(chain), parsed(anchors));
        let path = path(&chain, &anchors).unwrap_or_default();
        let subjects: Vec<_> = path.iter().map(|it| it.subject().to_string()).collect();
        subjects.join(" ")
    }

    /// A certificate of `issuer` with this name.
    fn below(issuer: &Authority, name: &str, is_ca: IsCa) -> Authority {
        let mut params = params(name, &[]);
        params.is_ca = is_ca;
        issued(issuer, params)
    }

    #[test]
    fn the_path_leads_over_all_signers_to_the_ca_that_signed_the_last_one() {
        let (root, other) = (authority("root", |_| {}), authority("other", |_| {}));
        let upper = below(&root, "upper", CA);
        let lower = below(&upper, "lower", CA);
        let leaf = below(&lower, "leaf", IsCa::NoCa);
        assert_eq!(found(&[&upper], &[&other, &root]), "CN=upper CN=root");
        assert_eq!(found(&[&lower, &upper], &[&root]), "CN=lower CN=upper CN=root");
        let whole = "CN=leaf CN=lower CN=upper CN=root";
        assert_eq!(found(&[&leaf, &lower, &upper], &[&other, &root]), whole);
        assert_eq!(found(&[&leaf, &lower, &upper, &root], &[&root]), whole);
        assert_eq!(found(&[&leaf, &lower, &upper], &[&upper]), "CN=leaf CN=lower CN=upper");
        for (chain, anchors) in [
            (&[&leaf, &lower, &upper][..], &[&other][..]),
            (&[&leaf, &upper, &lower], &[&root]),
            (&[&leaf, &upper], &[&root]),
            (&[&leaf], &[&root]),
            (&[&leaf, &lower, &upper], &[]),
            (&[], &[&root]),
        ] {
            assert_eq!(found(chain, anchors), "");
        }
    }

    #[test]
    fn a_signer_has_the_name_and_the_key_and_may_sign() {
        let root = authority("root", |_| {});
        let leaf = below(&root, "leaf", IsCa::NoCa);
        let with = |name: &str, key: KeyPair, is_ca: IsCa| {
            let mut params = params(name, &[]);
            params.is_ca = is_ca;
            Authority::self_signed(params, key).unwrap()
        };
        let key = || copy(root.key());
        let is_signer = |signer: &Authority| !found(&[&leaf], &[signer]).is_empty();
        assert!(is_signer(&with("root", key(), CA)));
        assert!(is_signer(&with("root", key(), IsCa::NoCa)), "a CA without basicConstraints");
        assert!(!is_signer(&with("root", key(), IsCa::ExplicitNoCa)), "not a CA");
        assert!(!is_signer(&with("root", KeyPair::generate().unwrap(), CA)), "another key");
        assert!(!is_signer(&with("other", key(), CA)), "another name");
    }

    #[test]
    fn a_certificate_between_leaf_and_ca_must_say_that_it_is_a_ca() {
        let root = authority("root", |_| {});
        for (is_ca, expected) in
            [(CA, "CN=leaf CN=middle CN=root"), (IsCa::NoCa, ""), (IsCa::ExplicitNoCa, "")]
        {
            let middle = below(&root, "middle", is_ca);
            let leaf = below(&middle, "leaf", IsCa::NoCa);
            assert_eq!(found(&[&leaf, &middle], &[&root]), expected, "{is_ca:?}");
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_second() {
        let made = authority("ca", |params: &mut CertificateParams| {
            params.not_before = now();
            params.not_after = now() + Duration::seconds(9);
        });
        let certificate = &parsed(&[&made])[0];
        for (seconds, expected) in [(-1, false), (0, true), (9, true), (10, false)] {
            let at = now() + Duration::seconds(seconds);
            assert_eq!(is_valid_at(certificate, at), expected, "{seconds}");
        }
    }
}
