//! TLS towards servers: exporters, and the proxy that `get`, `probe` and `demo` scrape.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    certificate::server_key_matches,
    provider::provider,
    server_verifier::{ServerVerifier, Servers},
};

/// Why no client configuration could be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientConfigError {
    /// TLS does not support this kind of key.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The private key belongs to another certificate.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
    /// The provider lacks the algorithms of a TLS version.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Builds a TLS client for HTTP/1.1 that trusts `servers` and, if it has a `pair`, presents its
/// certificate.
///
/// # Errors
/// See [`ClientConfigError`].
pub fn client_tls(
    servers: Servers,
    pair: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, ClientConfigError> {
    let provider = provider();
    let verifier = ServerVerifier::new(servers, &provider);
    let pair = match pair {
        None => None,
        Some((chain, key)) => {
            let key =
                provider.key_provider.load_private_key(key).map_err(ClientConfigError::Key)?;
            if chain.first().and_then(|leaf| server_key_matches(leaf, key.as_ref())) == Some(false)
            {
                return Err(ClientConfigError::KeyMismatch);
            }
            Some(CertifiedKey::new(chain, key))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientConfigError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        // Not `with_client_auth_cert`, because webpki does not parse X.509 version 1.
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
    };
    // A resumed handshake has no certificate. A server whose certificate has expired meanwhile, or
    // is no longer trusted, would still be accepted.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
