//! Why a peer's certificate is not trusted, in an operator's words.
//!
//! A rustls error only selects the TLS alert and cannot carry more details. The verifier therefore
//! records its reason in a task-local variable. [`watch`], which wraps the handshake, reads it.

use std::{cell::RefCell, fmt, future::Future, io, sync::Arc};

use rustls::{CertificateError, OtherError};
use time::{OffsetDateTime, macros::format_description};

/// Which certificate of a chain is expired or not yet valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The peer's own certificate.
    Leaf,
    /// A CA certificate between the peer's certificate and the trust anchor.
    Intermediate,
    /// The trust anchor.
    Anchor,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaf => "the certificate",
            Self::Intermediate => "an intermediate CA certificate",
            Self::Anchor => "the CA certificate",
        })
    }
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Authentication of a TLS client.
    Client,
    /// Authentication of a TLS server.
    Server,
}

impl Purpose {
    fn extended_key_usage(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }
}

/// Why a certificate is not trusted. Times are in seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// The bytes are not a certificate, or the certificate has syntax errors.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Neither X.509 version 3 nor a well-formed version 1, which has no fields of later versions.
    #[error("the certificate is neither X.509 version 3 nor version 1")]
    Version,
    /// The certificate is not valid yet. Carries the first second of its validity.
    #[error("{0} is not valid before {at}", at = Moment(*.1))]
    NotYetValid(Link, i64),
    /// The certificate has expired. Carries the last second of its validity.
    #[error("{0} expired on {at}", at = Moment(*.1))]
    Expired(Link, i64),
    /// No chain of signatures leads to a trust anchor.
    #[error("the certificate is not signed by a trusted CA")]
    UnknownIssuer,
    /// An intermediate CA signed a version 1 certificate. Only a trust anchor may sign version 1.
    #[error("a version 1 certificate must be signed directly by a CA in `client-ca` or `ca-file`")]
    Version1BelowIntermediate,
    /// A trust anchor that is not a CA signed the certificate.
    #[error("the certificate is signed by a trusted certificate that is not a CA")]
    NotACa,
    /// The peer presented a CA certificate that is not itself a trust anchor.
    #[error("the peer's certificate is a CA certificate that is not in the trusted file")]
    Ca,
    /// A revocation list names the certificate, or a CA of its chain.
    #[error("the certificate, or a CA that signed it, is revoked")]
    Revoked,
    /// Revocation lists are configured, but none from the certificate's issuer.
    #[error("no revocation list (CRL) from the certificate's issuer is configured")]
    NoList,
    /// The revocation list is past its `nextUpdate`. Carries `nextUpdate`.
    #[error("the CRL expired on {at}", at = Moment(*.0))]
    ListOutOfDate(i64),
    /// The revocation list names the issuer but is not signed with the issuer's key.
    #[error("the revocation list (CRL) is not signed by the certificate's issuer")]
    ListNotSigned,
    /// A signature algorithm that is not supported, such as SHA-1 or MD5, or a key that is too
    /// short.
    #[error("a certificate is signed with an unsupported algorithm, such as SHA-1 or MD5")]
    Algorithm,
    /// The extended key usage does not include this purpose.
    #[error("the certificate's extended key usage does not include {}", .0.extended_key_usage())]
    Purpose(Purpose),
    /// The server's certificate is not valid for the name that the client connected to.
    #[error("the certificate is not valid for {expected}: {}", Names(.presented))]
    Name {
        /// The name that the client connected to.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The CA's name constraints do not permit a name in the certificate (RFC 5280 §4.2.1.10).
    #[error("the CA's name constraints do not permit the certificate's names")]
    NameConstraints,
    /// A critical extension that is not supported (RFC 5280 §4.2).
    #[error("a certificate has a critical extension that is not supported")]
    CriticalExtension,
    /// The handshake's signature was not made with the certificate's key.
    #[error("the handshake is not signed with the certificate's key, or the key is too short")]
    HandshakeSignature,
    /// Any other error of webpki.
    #[error("the certificate chain is not valid ({0:?})")]
    Chain(webpki::Error),
}

struct Moment(i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        let text = OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .and_then(|moment| moment.format(format).ok());
        f.write_str(text.as_deref().unwrap_or("an unknown time"))
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("it has no subjectAltName");
        }
        write!(f, "it is for {}", self.0.join(", ").escape_debug())
    }
}

impl From<CertificateFault> for rustls::Error {
    /// Chooses the rustls error that sends the matching alert (RFC 8446 §6.2).
    fn from(fault: CertificateFault) -> Self {
        Self::InvalidCertificate(match fault {
            CertificateFault::Unreadable | CertificateFault::Version => {
                CertificateError::BadEncoding
            }
            CertificateFault::NotYetValid(..) => CertificateError::NotValidYet,
            CertificateFault::Expired(..) => CertificateError::Expired,
            CertificateFault::UnknownIssuer
            | CertificateFault::Version1BelowIntermediate
            | CertificateFault::NotACa
            | CertificateFault::Ca => CertificateError::UnknownIssuer,
            CertificateFault::Revoked => CertificateError::Revoked,
            CertificateFault::NoList | CertificateFault::ListNotSigned => {
                CertificateError::UnknownRevocationStatus
            }
            CertificateFault::ListOutOfDate(_) => CertificateError::ExpiredRevocationList,
            CertificateFault::Algorithm | CertificateFault::HandshakeSignature => {
                CertificateError::BadSignature
            }
            CertificateFault::Purpose(_) => CertificateError::InvalidPurpose,
            CertificateFault::Name { .. } => CertificateError::NotValidForName,
            CertificateFault::CriticalExtension => CertificateError::UnhandledCriticalExtension,
            other @ (CertificateFault::NameConstraints | CertificateFault::Chain(_)) => {
                CertificateError::Other(OtherError(Arc::new(other)))
            }
        })
    }
}

/// A peer's certificate that was not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// The certificate's subject, escaped; empty if the certificate cannot be read.
    pub subject: String,
    /// The issuer that the certificate names, escaped; empty if the certificate cannot be read.
    pub issuer: String,
    /// Why it was refused.
    pub fault: CertificateFault,
}

impl fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, fault } = self;
        write!(f, "{fault} (subject `{subject}`, issuer `{issuer}`)")
    }
}

impl std::error::Error for RefusedCertificate {}

impl From<RefusedCertificate> for io::Error {
    fn from(refused: RefusedCertificate) -> Self {
        Self::new(io::ErrorKind::InvalidData, refused)
    }
}

tokio::task_local! {
    static REFUSED: RefCell<Option<RefusedCertificate>>;
}

/// Records a refused certificate for the handshake that [`watch`] runs. Outside of [`watch`] it
/// does nothing.
pub fn report(refused: RefusedCertificate) {
    // An error means that `watch` is not running, so nobody would read the record.
    let _ = REFUSED.try_with(|place| place.replace(Some(refused)));
}

/// Runs a handshake. Returns its output, and the certificate that it refused, if any.
///
/// Cancel safe if `handshake` is.
pub async fn watch<F: Future>(handshake: F) -> (F::Output, Option<RefusedCertificate>) {
    let watched = async {
        let outcome = handshake.await;
        (outcome, REFUSED.with(RefCell::take))
    };
    REFUSED.scope(RefCell::default(), watched).await
}

/// Runs a handshake. If the handshake refused a certificate, the error says why.
///
/// Cancel safe if `handshake` is.
///
/// # Errors
/// The error of `handshake`, or the [`RefusedCertificate`].
pub async fn explained<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match watch(handshake).await {
        (Err(_), Some(refused)) => Err(refused.into()),
        (outcome, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(Moment(86_399).to_string(), "1970-01-01 23:59:59 UTC");
        assert_eq!(Moment(i64::MAX).to_string(), "an unknown time");
    }

    #[test]
    fn purposes_have_the_names_of_rfc_5280() {
        let names = [Purpose::Client, Purpose::Server].map(Purpose::extended_key_usage);
        assert_eq!(names, ["clientAuth", "serverAuth"]);
    }
}
