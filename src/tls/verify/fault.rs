//! Names the reason of a refusal: converts the errors of webpki.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::{parse_x509_certificate, x509::X509Name};

use super::dates::{in_time, seconds};
use crate::{
    common::{
        error::certificate::{CertificateFault, Link, Purpose, RefusedCertificate},
        peer::ClientIdentity,
    },
    tls::certificate::validity,
};

/// The fault of a peer whose own certificate is `leaf`, of X.509 version 3.
pub(super) fn of(
    error: webpki::Error,
    leaf: &CertificateDer<'_>,
    now: UnixTime,
    purpose: Purpose,
) -> CertificateFault {
    use webpki::Error as Webpki;
    // webpki does not say which certificate of a path is expired or not valid yet.
    let link = match validity(leaf).map(|dates| in_time(dates, now, Link::Leaf)) {
        Some(Err(_)) | None => Link::Leaf,
        Some(Ok(())) => Link::Intermediate,
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        deprecated,
        reason = "webpki may have more kinds, and still has some without details"
    )]
    match error {
        Webpki::BadDer | Webpki::BadDerTime | Webpki::TrailingData(_) => {
            CertificateFault::Unreadable
        }
        Webpki::CertNotValidYet { not_before, .. } => {
            CertificateFault::NotYetValid(link, seconds(not_before))
        }
        Webpki::CertExpired { not_after, .. } => {
            CertificateFault::Expired(link, seconds(not_after))
        }
        // The leaf has version 3, so an unsupported version is that of an intermediate certificate,
        // which therefore is not a CA. A wrong signature means a CA with our CA's name but another
        // key, for example after the CA was re-created.
        Webpki::UnknownIssuer
        | Webpki::UnsupportedCertVersion
        | Webpki::InvalidSignatureForPublicKey => CertificateFault::UnknownIssuer,
        Webpki::CaUsedAsEndEntity => CertificateFault::Ca,
        Webpki::EndEntityUsedAsCa => CertificateFault::NotACa,
        Webpki::CertRevoked => CertificateFault::Revoked,
        Webpki::UnknownRevocationStatus => CertificateFault::NoList,
        Webpki::CrlExpired { next_update, .. } => {
            CertificateFault::ListOutOfDate(seconds(next_update))
        }
        Webpki::IssuerNotCrlSigner
        | Webpki::InvalidCrlSignatureForPublicKey
        | Webpki::UnsupportedCrlSignatureAlgorithm
        | Webpki::UnsupportedCrlSignatureAlgorithmForPublicKey
        | Webpki::UnsupportedCrlSignatureAlgorithmContext(_)
        | Webpki::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateFault::ListNotSigned
        }
        Webpki::UnsupportedSignatureAlgorithm
        | Webpki::UnsupportedSignatureAlgorithmForPublicKey
        | Webpki::UnsupportedSignatureAlgorithmContext(_)
        | Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateFault::Algorithm
        }
        Webpki::RequiredEkuNotFound
        | Webpki::RequiredEkuNotFoundContext(_)
        | Webpki::EmptyEkuExtension => CertificateFault::Purpose(purpose),
        Webpki::CertNotValidForName(context) => CertificateFault::Name {
            expected: context.expected.to_str().into_owned(),
            presented: names(leaf),
        },
        Webpki::NameConstraintViolation => CertificateFault::NameConstraints,
        Webpki::UnsupportedCriticalExtension => CertificateFault::CriticalExtension,
        other => CertificateFault::Chain(other),
    }
}

/// The DNS names and addresses in a server's certificate.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Some(identity) = ClientIdentity::of(leaf) else { return Vec::new() };
    let addresses = identity.ips.iter().map(ToString::to_string);
    identity.dns.into_iter().chain(addresses).collect()
}

/// The subject and the issuer of a refused certificate, escaped, with its fault.
pub(super) fn refused(leaf: &CertificateDer<'_>, fault: CertificateFault) -> RefusedCertificate {
    /// The longest name in a log record, in characters.
    const MAX_NAME: usize = 200;
    let name = |name: &X509Name<'_>| {
        name.to_string().chars().take(MAX_NAME).collect::<String>().escape_debug().to_string()
    };
    let (subject, issuer) = parse_x509_certificate(leaf).map_or_else(
        |_| Default::default(),
        |(_, parsed)| (name(parsed.subject()), name(parsed.issuer())),
    );
    RefusedCertificate { subject, issuer, fault }
}
