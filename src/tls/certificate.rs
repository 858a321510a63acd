//! What a certificate says about itself.

use rustls::{pki_types::CertificateDer, sign::SigningKey};
use x509_parser::parse_x509_certificate;

/// From when to when a certificate is valid, both included, in seconds since 1970.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Whether a private key belongs to a certificate. `None` when one of them cannot be read.
#[must_use]
pub fn server_key_matches(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> Option<bool> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(key.public_key()?.as_ref() == parsed.public_key().raw)
}
