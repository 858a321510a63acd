//! How a connection is secured, and until when its certificates are valid.

use rustls::pki_types::{CertificateDer, UnixTime};

use crate::tls;

/// How a connection is secured.
#[derive(Debug)]
pub enum ConnectionSecurity {
    /// Plain HTTP.
    Plain,
    /// TLS.
    Tls {
        /// The certificate chain that the client presented, leaf first.
        presented: Vec<CertificateDer<'static>>,
        /// A time just before the chain was verified.
        before: UnixTime,
    },
}

impl ConnectionSecurity {
    /// The time before which the certificates were verified, in seconds since 1970 (UTC).
    pub(super) fn verified(&self) -> i64 {
        match self {
            // Plain HTTP has no certificates to verify.
            Self::Plain => i64::MAX,
            Self::Tls { before, .. } => seconds(*before),
        }
    }

    /// The earliest end of validity among the client's certificates that is not before `from`. Both
    /// are in seconds since 1970 (UTC).
    pub(super) fn first_end(&self, from: i64) -> Option<i64> {
        let presented: &[_] = match self {
            Self::Plain => &[],
            Self::Tls { presented, .. } => presented,
        };
        let ends = presented.iter().filter_map(|certificate| tls::validity(certificate));
        ends.map(|(_, end)| end).filter(|end| *end >= from).min()
    }
}

/// `moment` in seconds since 1970 (UTC).
pub(super) fn seconds(moment: UnixTime) -> i64 {
    i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)
}
