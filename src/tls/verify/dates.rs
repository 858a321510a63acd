//! The validity of a certificate.

use rustls::pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;

use crate::common::error::certificate::{CertificateFault, Link};

/// The first and the last second of the validity, in seconds since 1970.
pub(super) fn dates(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// Whether `now` is in the validity of a certificate, which is the `link` of its path. Both ends
/// belong to the validity (RFC 5280 §4.1.2.5).
pub(super) fn in_time(
    (not_before, not_after): (i64, i64),
    now: UnixTime,
    link: Link,
) -> Result<(), CertificateFault> {
    let now = seconds(now);
    if now < not_before {
        Err(CertificateFault::NotYetValid(link, not_before))
    } else if now > not_after {
        Err(CertificateFault::Expired(link, not_after))
    } else {
        Ok(())
    }
}

/// The time in seconds since 1970.
pub(super) fn seconds(moment: UnixTime) -> i64 {
    i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)
}
