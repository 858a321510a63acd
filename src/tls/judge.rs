//! Certificates, keys and lists that are sound in themselves, and with which TLS cannot work all the
//! same: found before a handshake fails because of them, in an operator's words.
//!
//! It is an error if nobody could ever be let in, or no exporter be asked, because of it. What a peer
//! may refuse, or what the clock or another file mends, is a warning.

mod algorithm;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::{Oid, oid},
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    parse_x509_certificate, parse_x509_crl,
    revocation_list::CertificateRevocationList,
    x509::{X509Name, X509Version},
};

use super::date;
use crate::pem::Place;

/// Certificates with where they are in their file.
pub(super) type Placed = [(Place, CertificateDer<'static>)];

/// Whose certificate an own one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// This server's, which scrapers verify.
    Server,
    /// The same from enrolment: openITCOCKPIT does not verify it.
    EnrolledServer,
    /// Shown to an exporter, or by `get`.
    Client,
}

/// What certificates of CAs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchors {
    /// `client-ca`, with the lists of `client-crl` if there is one.
    OfClients,
    /// `ca-file`, `--cacert`.
    OfServers,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can never work.
    Error(String),
    /// It may not work.
    Warning(String),
}

/// Judges an own certificate and those behind it.
pub(super) fn chain(chain: &Placed, own: Own, now: OffsetDateTime) -> Vec<Verdict> {
    let parsed = parsed(chain);
    let mut verdicts = Vec::new();
    let Some(((place, leaf), issuers)) = parsed.split_first() else { return verdicts };
    let mut warn = |text: String| verdicts.push(Verdict::Warning(text));
    if let Some(usage) = leaf.extended_key_usage().ok().flatten().map(|usage| usage.value) {
        let (is_for_it, wanted, peer) = match own {
            Own::Server | Own::EnrolledServer => {
                (usage.server_auth, "serverAuth", "scrapers refuse")
            }
            Own::Client => (usage.client_auth, "clientAuth", "the server refuses"),
        };
        if !is_for_it && !usage.any {
            warn(format!(
                "{place} has no {wanted} in its extended key usage, so {peer} it: issue it with \
                 extendedKeyUsage={wanted}"
            ));
        }
    }
    let has_names = || {
        let names = leaf.subject_alternative_name().ok().flatten();
        names.is_some_and(|names| {
            let is_name = |name: &GeneralName<'_>| {
                matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
            };
            names.value.general_names.iter().any(is_name)
        })
    };
    if own == Own::Server && !has_names() {
        warn(format!(
            "{place} has no DNS name or address in a subjectAltName, so Prometheus refuses it unless \
             `insecure_skip_verify` is set: issue it with subjectAltName=DNS:HOST"
        ));
    }
    for (index, (place, certificate)) in parsed.iter().enumerate() {
        let is_own_issuer = certificate.subject() == certificate.issuer();
        if !is_own_issuer && has_weak_signature(certificate) {
            warn(format!(
                "{place} is signed with SHA-1 or MD5, which most programs refuse: have it issued \
                 again with SHA-256"
            ));
        }
        let Some((next_place, next)) = parsed.get(index + 1) else { continue };
        if certificate.issuer() != next.subject() {
            warn(format!(
                "{next_place} is not the issuer of {place}, so some programs refuse the chain: put \
                 the own certificate first, and each issuer after what it has signed"
            ));
        }
    }
    for (place, issuer) in issuers {
        let end = issuer.validity().not_after.timestamp();
        if end < now.unix_timestamp() {
            warn(format!(
                "{place} expired on {}: put its issuer's new certificate there",
                date(end)
            ));
        }
    }
    verdicts
}

/// Judges certificates that are trusted.
pub(super) fn anchors(anchors: &Placed, role: Anchors, now: OffsetDateTime) -> Vec<Verdict> {
    let parsed = parsed(anchors);
    let mut verdicts = Vec::new();
    for (place, anchor) in &parsed {
        let unusable = algorithm::of_public(anchor.public_key())
            .map(|problem| format!("{place} has {problem}"))
            .or_else(|| constraint(place, anchor))
            .or_else(|| critical(anchor).map(|what| format!("{place} {what}")));
        match unusable {
            Some(text) if role == Anchors::OfServers && parsed.len() > 1 => {
                verdicts.push(Verdict::Warning(text));
            }
            Some(text) => verdicts.push(Verdict::Error(text)),
            None => {}
        }
        if role == Anchors::OfClients {
            verdicts.extend(leaf(place, anchor).map(Verdict::Warning));
        }
    }
    verdicts.extend(dates(&parsed, role, now));
    verdicts
}

/// Judges a private key that TLS may not be able to use.
pub(super) fn key(key: &PrivateKeyDer<'_>) -> Option<String> {
    algorithm::of_private(key).map(|problem| format!("it is {problem}"))
}

/// Judges revocation lists, and how they fit to the CAs. What is wrong with the CAs comes first, then
/// what is wrong with the lists. Without any list nothing is looked up.
pub(super) fn lists(anchors: &Placed, lists: &[(Place, Vec<u8>)]) -> (Vec<Verdict>, Vec<Verdict>) {
    let (mut of_anchors, mut of_lists) = (Vec::new(), Vec::new());
    let anchors = parsed(anchors);
    let lists: Vec<_> = lists
        .iter()
        .filter_map(|(place, der)| Some((place, parse_x509_crl(der).ok()?.1)))
        .collect();
    if !lists.is_empty() {
        of_anchors.extend(anchors.iter().filter_map(|anchor| without_list(anchor, &lists)));
    }
    for (place, list) in &lists {
        let unsupported = unsupported_list(list).map(Verdict::Error);
        let verdict = unsupported.or_else(|| issuer_of_list(list, &anchors).map(Verdict::Warning));
        of_lists.extend(verdict.map(|verdict| match verdict {
            Verdict::Error(text) => Verdict::Error(format!("{place} {text}")),
            Verdict::Warning(text) => Verdict::Warning(format!("{place} {text}")),
        }));
    }
    (of_anchors, of_lists)
}

fn parsed(all: &Placed) -> Vec<(&Place, X509Certificate<'_>)> {
    let parse = |der| parse_x509_certificate(der).ok().map(|(_, parsed)| parsed);
    all.iter().filter_map(|(place, der)| Some((place, parse(der)?))).collect()
}

/// RFC 5280 sections 4.2.1.9 and 4.2.1.3. Many CAs have neither extension, and those of version 1
/// cannot.
fn signs(certificate: &X509Certificate<'_>) -> bool {
    let constraints = certificate.basic_constraints().ok().flatten();
    let usage = certificate.key_usage().ok().flatten();
    constraints.is_none_or(|constraints| constraints.value.ca)
        && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// A client's own certificate is a fine anchor, but hardly ever meant where one of a CA is asked for.
fn leaf(place: &Place, anchor: &X509Certificate<'_>) -> Option<String> {
    let issuer = shown(anchor.issuer());
    if !signs(anchor) {
        return Some(format!(
            "{place} is not a CA certificate: it lets in a client that shows this very certificate, \
             and nobody else. If `{issuer}` signed the clients' certificates, put its certificate here"
        ));
    }
    let has_constraints = anchor.basic_constraints().is_ok_and(|constraints| constraints.is_some());
    let is_meant_to_sign =
        anchor.version != X509Version::V3 || has_constraints || anchor.subject() == anchor.issuer();
    (!is_meant_to_sign).then(|| {
        format!(
            "{place} seems not to be a CA certificate: it has no basicConstraints, and `{issuer}` \
             issued it. If `{issuer}` signed the clients' certificates, put its certificate here"
        )
    })
}

/// webpki refuses whatever a CA with such constraints has signed.
fn constraint(place: &Place, anchor: &X509Certificate<'_>) -> Option<String> {
    let constraints = anchor.name_constraints().ok().flatten()?;
    let all = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
    let mut bases = all.into_iter().flatten().flatten().map(|subtree| &subtree.base);
    bases.any(|base| matches!(base, GeneralName::DirectoryName(_))).then(|| {
        format!(
            "{place} has name constraints on directory names (dirName), which are not supported, so \
             everything that it signed is refused: issue it without them, or name the CA below it"
        )
    })
}

/// A critical extension that webpki does not know, so that it takes the certificate for nothing.
fn critical(anchor: &X509Certificate<'_>) -> Option<String> {
    let is_unknown = |extension: &&X509Extension<'_>| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::KeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
                    | ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::NameConstraints(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::CRLDistributionPoints(_)
            )
    };
    let extension = anchor.extensions().iter().find(is_unknown)?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an extension without a name that operators know is not named"
    )]
    let name = match extension.parsed_extension() {
        ParsedExtension::CertificatePolicies(_) => "certificatePolicies",
        ParsedExtension::PolicyMappings(_) => "policyMappings",
        ParsedExtension::PolicyConstraints(_) => "policyConstraints",
        ParsedExtension::InhibitAnyPolicy(_) => "inhibitAnyPolicy",
        _ => "",
    };
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    Some(format!(
        "has the critical extension{name}, which is not supported: issue it without that extension, \
         or with it not critical"
    ))
}

fn has_weak_signature(certificate: &X509Certificate<'_>) -> bool {
    /// RFC 3279 section 2.2: RSA with MD5 and SHA-1, ECDSA with SHA-1.
    const WEAK: [Oid<'_>; 3] =
        [oid!(1.2.840.113549.1.1.4), oid!(1.2.840.113549.1.1.5), oid!(1.2.840.10045.4.1)];
    WEAK.contains(&certificate.signature_algorithm.algorithm)
}

/// Anchors that let nobody in because of their dates. Another file or another clock mends that
/// without a restart, so it stops nothing.
fn dates(
    parsed: &[(&Place, X509Certificate<'_>)],
    role: Anchors,
    now: OffsetDateTime,
) -> Vec<Verdict> {
    let now = now.unix_timestamp();
    let consequence = match role {
        Anchors::OfClients => "no client is let in by it",
        Anchors::OfServers => "no server is trusted by it",
    };
    let of = |(place, anchor): &(&Place, X509Certificate<'_>)| {
        let validity = anchor.validity();
        let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let text = if end < now {
            format!(
                "{place} expired on {}, so {consequence}: put the CA's new certificate into the file",
                date(end)
            )
        } else if begin > now {
            format!(
                "{place} is not valid before {}, so {consequence} until then: check this host's clock",
                date(begin)
            )
        } else {
            return None;
        };
        Some(Verdict::Warning(text))
    };
    parsed.iter().filter_map(of).collect()
}

/// A CA whose clients are refused because there are lists, and none that counts for it.
fn without_list(
    (place, anchor): &(&Place, X509Certificate<'_>),
    lists: &[(&Place, CertificateRevocationList<'_>)],
) -> Option<Verdict> {
    if !signs(anchor) {
        return None;
    }
    if !lists.iter().any(|(_, list)| list.issuer() == anchor.subject()) {
        return Some(Verdict::Warning(format!(
            "{place} has no CRL in the file that `client-crl` names, so every client with a \
             certificate that it signed is refused: add its CRL there"
        )));
    }
    // RFC 5280 section 4.2.1.3.
    let usage = anchor.key_usage().ok().flatten();
    usage.is_some_and(|usage| !usage.value.crl_sign()).then(|| {
        Verdict::Error(format!(
            "{place} may not sign CRLs (its key usage has no cRLSign), so its CRL counts for nothing \
             and every client is refused: issue the CA certificate with \
             keyUsage=keyCertSign,cRLSign"
        ))
    })
}

fn issuer_of_list(
    list: &CertificateRevocationList<'_>,
    anchors: &[(&Place, X509Certificate<'_>)],
) -> Option<String> {
    let mut issuers =
        anchors.iter().filter(|(_, anchor)| anchor.subject() == list.issuer()).peekable();
    if issuers.peek().is_none() {
        let issuer = shown(list.issuer());
        return Some(format!(
            "is a CRL of `{issuer}`, which is not among the CAs: it counts only for an intermediate \
             CA of that name"
        ));
    }
    let is_signed = issuers.any(|(_, anchor)| list.verify_signature(anchor.public_key()).is_ok());
    (!is_signed).then(|| {
        "is a CRL that is not signed by the CA that it names, so every client of that CA is \
         refused: fetch the CA's present CRL"
            .to_owned()
    })
}

/// A name for a message: whatever it is, at a bounded length.
fn shown(name: &X509Name<'_>) -> String {
    let text: String = name.to_string().chars().take(200).collect();
    text.escape_debug().to_string()
}

/// RFC 5280 section 5.
fn unsupported_list(list: &CertificateRevocationList<'_>) -> Option<String> {
    /// deltaCRLIndicator, section 5.2.4.
    const DELTA: Oid<'_> = oid!(2.5.29.27);

    let text = if list.version() != Some(X509Version::V2) {
        "is a CRL of version 1, which is not supported: issue it as version 2 (in the CA's \
         openssl.cnf, set `crlnumber` and `crl_extensions`)"
    } else if list.extensions().iter().any(|extension| extension.oid == DELTA) {
        "is a delta CRL, which is not supported: use the complete CRL"
    } else if list.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::IssuingDistributionPoint(point) if point.indirect_crl
        )
    }) {
        "is an indirect CRL, which is not supported: use the CRL of the issuer itself"
    } else {
        return None;
    };
    Some(text.to_owned())
}
