//! A proxy in this process with temporary certificates, for `demo` and `probe`.

mod files;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};
use tokio::task::JoinSet;

pub(super) use self::files::Files;
use crate::{
    config::{Config, Sources},
    service::{
        assets::Assets,
        reload::{self, Loaded},
        server::{Handle, Server, StartError},
    },
    tls::pki::{self, Authority, Pair, Validity},
};

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("cannot write to a temporary folder")]
    Folder(#[source] io::Error),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the worker threads")]
    Threads(#[source] io::Error),
    #[error("cannot start the proxy")]
    Proxy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot set up TLS for the scrape")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// Whether the operating system is the cause. All other causes are internal errors.
    pub(crate) fn is_system_error(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Listen { .. } | Self::Threads(_) => true,
            Self::Pki(_) | Self::Proxy(_) | Self::Tls(_) => false,
        }
    }
}

/// A CA that is valid for one day, and a pair for each side.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: Authority,
    server: Pair,
    client: Pair,
}

impl Certificates {
    /// Generates them for a proxy that listens on `listen`. `name` is the name of the CA and of the
    /// client.
    pub(super) fn generate(name: &str, listen: IpAddr) -> Result<Self, Error> {
        let authority = Authority::generate(&format!("{name} CA"), Validity::OneDay)?;
        let server = authority.server_pair(&hosts(listen))?;
        let client = authority.client_pair(name)?;
        Ok(Self { authority, server, client })
    }

    /// Configuration of a TLS client that trusts this CA and presents the client certificate.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.pair().certificate())?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.client.certificate()], self.client.key())?;
        Ok(Arc::new(config))
    }
}

/// A proxy in this process. Dropping it stops it immediately.
pub(super) struct RunningProxy {
    address: SocketAddr,
    handle: Handle,
    server: JoinSet<()>,
}

impl RunningProxy {
    /// Starts the proxy with the result of [`load`].
    ///
    /// # Errors
    /// [`Error::Listen`] with [`io::ErrorKind::AddrInUse`] if the port is in use.
    pub(super) fn start(config: &Config, assets: Assets) -> Result<Self, Error> {
        let server = Server::bind(config, assets).map_err(|error| match error {
            StartError::Listen { address, source } => Error::Listen { address, source },
            StartError::Workers(source) => Error::Threads(source),
            StartError::Given(_) => Error::Proxy(error.into()),
        })?;
        let (address, handle) = (server.address(), server.handle());
        let mut running = JoinSet::new();
        running.spawn(server.run());
        Ok(Self { address, handle, server: running })
    }

    /// The address it listens on. If port 0 was requested, has the actual port.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the proxy after its scrapes in flight. If this future is dropped, they are aborted.
    pub(super) async fn stop(mut self) {
        self.handle.drain();
        while self.server.join_next().await.is_some() {}
    }
}

/// Loads `config_file` as `scrapegate run --config` does, with another listen address.
pub(super) fn load(config_file: &Path, listen: SocketAddr) -> Result<(Config, Assets), Error> {
    let sources =
        Sources { config: Some(config_file.to_owned()), exporters: None, listen: Some(listen) };
    let Loaded { state, diagnostics, .. } = reload::load(&sources);
    state.ok_or_else(|| Error::Proxy(diagnostics.into()))
}

/// The address at which this host reaches a server that listens on `listen`.
pub(super) fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}

/// The names and addresses in the server's certificate.
fn hosts(listen: IpAddr) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let address = reachable(listen).to_string();
    if !hosts.contains(&address) {
        hosts.push(address);
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_valid_for_the_scraped_address() {
        for (listen, scraped, names) in [
            ("127.0.0.1", "127.0.0.1", 3),
            ("0.0.0.0", "127.0.0.1", 3),
            ("::", "::1", 3),
            ("192.0.2.7", "192.0.2.7", 4),
        ] {
            let listen: IpAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), scraped);
            assert!(hosts(listen).contains(&scraped.to_owned()), "{listen}");
            assert_eq!(hosts(listen).len(), names, "{listen}");
        }
    }
}
