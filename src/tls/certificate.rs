//! What a certificate says about itself.

use std::time::SystemTime;

use rustls::{
    pki_types::{CertificateDer, UnixTime},
    sign::SigningKey,
};
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

/// What the wall clock shows, by which certificates are valid or not.
///
/// Not `UnixTime::now`, which panics when the clock stands before 1970: here it shows 1970 then.
#[must_use]
pub fn wall_clock() -> UnixTime {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since_1970.unwrap_or_default())
}

/// From when to when a certificate is valid, both included, in seconds since 1970.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// A day of UTC for a message, from seconds since 1970.
#[must_use]
pub fn date(timestamp: i64) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .map_or_else(|_| timestamp.to_string(), |time| time.date().to_string())
}

/// Whether a private key belongs to a certificate. `None` when one of them cannot be read.
#[must_use]
pub fn server_key_matches(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> Option<bool> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(key.public_key()?.as_ref() == parsed.public_key().raw)
}
