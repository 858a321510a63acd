//! Why a peer's certificate is not trusted, in words for an operator.
//!
//! rustls's own error chooses the TLS alert, and has no room for more. So the verifier leaves its
//! reason here, and [`watch`], around the handshake, picks it up.

use std::{cell::RefCell, fmt, future::Future, io, sync::Arc};

use rustls::{CertificateError, OtherError};
use time::{OffsetDateTime, macros::format_description};

/// The certificate of a chain that is out of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The peer's own.
    Leaf,
    /// One between the peer's own and the trusted one.
    Intermediate,
    /// The trusted one.
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
    /// To be a TLS client.
    Client,
    /// To be a TLS server.
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

/// Why a certificate is not trusted. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Not a certificate, or one with syntax errors.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// X.509 version 2, which nobody uses.
    #[error("the certificate is neither X.509 version 3 nor version 1")]
    Version,
    /// Too early.
    #[error("{0} is not valid before {at}", at = Moment(*.1))]
    NotYetValid(Link, i64),
    /// Too late.
    #[error("{0} expired on {at}", at = Moment(*.1))]
    Expired(Link, i64),
    /// No signature leads to a trusted certificate.
    #[error("the certificate is not signed by a trusted CA")]
    UnknownIssuer,
    /// Signed by an intermediate CA, which is not looked at for version 1.
    #[error("a version 1 certificate must be signed directly by a CA in `client-ca` or `ca-file`")]
    Version1BelowIntermediate,
    /// Signed by a trusted certificate that says that it is not a CA.
    #[error("the certificate is signed by a trusted certificate that is not a CA")]
    NotACa,
    /// A CA certificate that is not itself among the trusted ones, shown as the peer's own.
    #[error("the peer's certificate is a CA certificate that is not in the trusted file")]
    Ca,
    /// On a list.
    #[error("the certificate, or a CA that signed it, is revoked")]
    Revoked,
    /// There are lists, and none is of this issuer.
    #[error("no revocation list (CRL) of the certificate's issuer is configured")]
    NoList,
    /// A list past its `nextUpdate`.
    #[error("the CRL expired on {at}", at = Moment(*.0))]
    ListOutOfDate(i64),
    /// A list with the issuer's name and another's signature.
    #[error("the revocation list (CRL) is not signed by the certificate's issuer")]
    ListNotSigned,
    /// SHA-1, MD5, or a key that is too short.
    #[error("a certificate is signed with an unsupported algorithm, such as SHA-1 or MD5")]
    Algorithm,
    /// An extended key usage that lacks this one.
    #[error("the certificate's extended key usage lacks {}", .0.extended_key_usage())]
    Purpose(Purpose),
    /// A server's certificate without the name that it was asked by.
    #[error("the certificate is not valid for {expected}: {}", Names(.presented))]
    Name {
        /// The name it was asked by.
        expected: String,
        /// The names it has.
        presented: Vec<String>,
    },
    /// Names that the CA may not certify.
    #[error("the CA's name constraints do not permit the certificate's names")]
    NameConstraints,
    /// An extension that has to be understood, and is not.
    #[error("a certificate has a critical extension that is not supported")]
    CriticalExtension,
    /// The handshake's signature was not made with the certificate's key.
    #[error("the handshake is not signed with the certificate's key, or the key is too short")]
    HandshakeSignature,
    /// Whatever else webpki refuses.
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
    /// The error whose alert fits (RFC 8446 §6.2).
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
    /// Whom it names, escaped; empty when it cannot be read.
    pub subject: String,
    /// Who signed it, as it says, escaped; empty when it cannot be read.
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

/// Leaves word of a refused certificate for the handshake that is going on, if [`watch`] is around
/// it.
pub fn report(refused: RefusedCertificate) {
    // Without a watcher nobody wants to know.
    let _ = REFUSED.try_with(|place| place.replace(Some(refused)));
}

/// Runs a handshake, and says which certificate was refused in it. Cancel safe if `handshake` is.
pub async fn watch<F: Future>(handshake: F) -> (F::Output, Option<RefusedCertificate>) {
    let watched = async {
        let outcome = handshake.await;
        (outcome, REFUSED.with(RefCell::take))
    };
    REFUSED.scope(RefCell::default(), watched).await
}

/// Runs a handshake whose error, if a certificate was refused, says why. Cancel safe if `handshake`
/// is.
///
/// # Errors
/// Those of `handshake`.
pub async fn explained<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match watch(handshake).await {
        (Err(_), Some(refused)) => Err(refused.into()),
        (outcome, _) => outcome,
    }
}
