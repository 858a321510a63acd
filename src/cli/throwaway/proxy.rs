//! The proxy in this process.

use std::{net::SocketAddr, path::Path};

use tokio::task::JoinSet;

use super::error::Error;
use crate::{
    config::{Config, Sources},
    service::{
        assets::Assets,
        reload::{self, Loaded},
        server::{Handle, Server, StartError},
    },
};

/// A proxy in this process. Dropping it stops it immediately.
pub(crate) struct RunningProxy {
    address: SocketAddr,
    handle: Handle,
    server: JoinSet<()>,
}

impl RunningProxy {
    /// Starts the proxy with the result of [`load`].
    ///
    /// # Errors
    /// [`Error::Listen`] with [`std::io::ErrorKind::AddrInUse`] if the port is in use.
    pub(crate) fn start(config: &Config, assets: Assets) -> Result<Self, Error> {
        let server = Server::bind(config, assets).map_err(|error| match error {
            StartError::Listen { address, source } => Error::Listen { address, source },
            StartError::Workers(source) => Error::Threads(source),
            StartError::Passed(_) => Error::Proxy(error.into()),
        })?;
        let (address, handle) = (server.address(), server.handle());
        let mut running = JoinSet::new();
        running.spawn(server.run());
        Ok(Self { address, handle, server: running })
    }

    /// The address it listens on. If port 0 was requested, has the actual port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the proxy after its scrapes in flight. If this future is dropped, they are aborted.
    pub(crate) async fn stop(mut self) {
        self.handle.drain();
        while self.server.join_next().await.is_some() {}
    }
}

/// Loads `config_file` as `scrapegate run --config` does, with another listen address.
pub(crate) fn load(config_file: &Path, listen: SocketAddr) -> Result<(Config, Assets), Error> {
    let sources =
        Sources { config: Some(config_file.to_owned()), exporters: None, listen: Some(listen) };
    let Loaded { state, diagnostics, .. } = reload::load(&sources);
    state.ok_or_else(|| Error::Proxy(diagnostics.into()))
}
