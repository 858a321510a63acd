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
