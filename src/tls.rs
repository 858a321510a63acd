//! TLS: which versions, which certificates, and who is trusted, towards scrapers and exporters.

mod certificate;
mod client;
mod client_verifier;
mod handshake;
pub(crate) mod judge;
mod server_verifier;
#[cfg(test)]
mod tests;
mod turns;
pub mod verify;

use std::sync::Arc;

use rustls::{
    DistinguishedName, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

pub use self::{
    certificate::{date, server_key_matches, validity, wall_clock},
    client::{ClientConfigError, client_tls},
    client_verifier::ClientVerifier,
    handshake::{HandshakeError, handshake},
    server_verifier::Servers,
    turns::Turns,
    verify::{Trust, TrustError},
};

/// `[default] tls-security-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsLevel {
    /// TLS 1.2 and 1.3; the same suites as `Intermediate`, because rustls has no weaker ones.
    Lax,
    /// TLS 1.2 and 1.3 with ECDHE and AEAD.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

impl TlsLevel {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Lax | Self::Intermediate => &BOTH,
            Self::Modern => &BOTH[..1],
        }
    }
}

/// The cryptography everything here uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whose certificates are let in.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Those that chain to one of `anchors`, and the anchors themselves.
    Require {
        /// Trust anchors.
        anchors: Vec<CertificateDer<'static>>,
        /// When not empty, every certificate of a chain needs a valid list that does not name it.
        crls: Vec<CertificateRevocationListDer<'static>>,
    },
    /// No certificate is asked for.
    Anyone,
}

/// Why there is no server configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServerConfigError {
    /// The key is of a kind that TLS does not use.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The clients' CA or its CRLs cannot be used.
    #[error(transparent)]
    Clients(#[from] TrustError),
    /// The provider lacks what a version needs.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A TLS server, and what its clients' certificates are judged by.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// For connections that are open when the rules change; absent when no certificate is asked
    /// for.
    pub clients: Option<Arc<ClientVerifier>>,
}

/// Builds the TLS server.
///
/// No session is stored and no ticket is sent: a resumed session would skip the check of the
/// client's certificate.
///
/// # Errors
/// See [`ServerConfigError`]. Whether key and certificate belong together is
/// [`server_key_matches`]'s to say.
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
        .with_protocol_versions(level.versions())
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
    // Not `with_single_cert`: webpki parses no X.509 version 1, which is what `openssl x509 -req`
    // makes when it is given no extensions, and such agent certificates exist.
    let pair = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let mut config = builder.with_cert_resolver(pair);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(ServerTls { config: Arc::new(config), clients })
}

/// Most bytes of CA names in a handshake, where no message can have more than 64 KiB.
const MAX_SUBJECTS: usize = 16 * 1024;

/// The names of `anchors`, as the server tells them to clients. None at all if they are too many:
/// a client that is told none shows the certificate it has (RFC 8446 §4.2.4, RFC 5246 §7.4.4),
/// and one that misses its CA in the list shows none.
fn subjects(anchors: &[CertificateDer<'static>]) -> Vec<DistinguishedName> {
    let names: Vec<DistinguishedName> = anchors
        .iter()
        .filter_map(|anchor| {
            let (_, certificate) = x509_parser::parse_x509_certificate(anchor).ok()?;
            Some(DistinguishedName::from(certificate.subject().as_raw().to_vec()))
        })
        .collect();
    // Each has its length in two bytes before it.
    let length: usize = names.iter().map(|name| name.as_ref().len() + 2).sum();
    if length > MAX_SUBJECTS { Vec::new() } else { names }
}
