//! TLS towards scrapers.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::{client_verifier::ClientVerifier, provider::provider, verify::TrustError};
use crate::config::TlsLevel;

/// Which client certificates are accepted.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Certificates that chain to one of `anchors`, and the anchors themselves.
    Require {
        /// The CAs of the clients, or the clients' own certificates.
        anchors: Vec<CertificateDer<'static>>,
        /// Revocation lists. If not empty, every certificate of a chain needs a valid list that
        /// does not name it.
        crls: Vec<CertificateRevocationListDer<'static>>,
    },
    /// No client certificate is requested.
    Anyone,
}

/// Why no server configuration could be built.
#[derive(Debug, thiserror::Error)]
pub enum ServerConfigError {
    /// TLS does not support this kind of key.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The clients' CA or the CRLs cannot be used.
    #[error(transparent)]
    Clients(#[from] TrustError),
    /// The provider lacks the algorithms of a TLS version.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A TLS server, and the verifier of its client certificates.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The configuration for handshakes.
    pub config: Arc<ServerConfig>,
    /// The verifier, to check open connections again when the rules change. Absent if no client
    /// certificate is requested.
    pub clients: Option<Arc<ClientVerifier>>,
}

/// Builds the TLS server.
///
/// No session is stored and no ticket is sent, because a resumed session would skip the check of
/// the client certificate.
///
/// # Errors
/// See [`ServerConfigError`]. Use [`super::server_key_matches`] to check whether key and certificate
/// belong together.
pub fn server_tls(
    level: TlsLevel,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    clients: Clients,
) -> Result<ServerTls, ServerConfigError> {
    let provider = provider();
    let key =
        provider.key_provider.load_private_key(key.clone_key()).map_err(ServerConfigError::Key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(level))
        .map_err(ServerConfigError::Tls)?;
    let clients = match clients {
        Clients::Require { anchors, crls } => {
            Some(Arc::new(ClientVerifier::new(anchors, crls, &provider)?))
        }
        Clients::Anyone => None,
    };
    let builder = match &clients {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
        None => builder.with_no_client_auth(),
    };
    // Not `with_single_cert`, because webpki does not parse X.509 version 1. `openssl x509 -req`
    // makes version 1 if it is given no extensions, and some agents have such certificates.
    let pair = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let mut config = builder.with_cert_resolver(pair);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(ServerTls { config: Arc::new(config), clients })
}

fn versions(level: TlsLevel) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match level {
        TlsLevel::Lax | TlsLevel::Intermediate => &BOTH,
        TlsLevel::Modern => &BOTH[..1],
    }
}
