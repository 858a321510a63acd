//! Reads the validity and the key of a certificate.

use std::time::SystemTime;

use rustls::{
    pki_types::{CertificateDer, UnixTime},
    sign::SigningKey,
};
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

/// The system's time, by which certificates are valid or not.
///
/// Unlike `UnixTime::now`, it does not panic if the clock is before 1970, but returns 1970.
#[must_use]
pub fn wall_clock() -> UnixTime {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since_1970.unwrap_or_default())
}

/// The first and the last second of a certificate's validity, in seconds since 1970. `None` if the
/// certificate cannot be parsed.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The UTC date of a time in seconds since 1970, for messages.
#[must_use]
pub fn date(timestamp: i64) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .map_or_else(|_| timestamp.to_string(), |time| time.date().to_string())
}

/// Whether the private key belongs to the certificate. `None` if one of them cannot be read.
#[must_use]
pub fn server_key_matches(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> Option<bool> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(key.public_key()?.as_ref() == parsed.public_key().raw)
}
