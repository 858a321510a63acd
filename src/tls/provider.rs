//! The cryptographic library.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptographic provider of all TLS code here: aws-lc-rs.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
