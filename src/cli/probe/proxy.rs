//! A temporary scrapegate in this process, in front of the probed exporter.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;

use crate::{
    cli::throwaway::{self, Certificates, Error, RunningProxy, TemporaryFiles},
    common::exporter::{Exporter, ExporterPath, Target, UpstreamTls},
    scrape::exporters::Exporters,
};

/// A free port on loopback.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The running temporary proxy. Dropping it stops it.
pub(super) struct OwnProxy {
    running: RunningProxy,
    exporter: Exporter,
}

impl OwnProxy {
    /// Starts the proxy with its own certificates. Removes its files before it returns.
    ///
    /// # Errors
    /// If the system refuses a folder, a port or a thread.
    pub(super) fn start(exporter: &Exporter) -> Result<Self, Error> {
        let certificates = Certificates::generate("scrapegate probe", LISTEN.ip())?;
        let files = TemporaryFiles::write(&std::env::temp_dir(), &certificates, LISTEN, "")
            .map_err(Error::Folder)?;
        let loaded = throwaway::load(&files.config(), LISTEN);
        files.remove().map_err(Error::Folder)?;
        let (mut config, mut assets) = loaded?;
        // The exporter then sees the same remaining time as without the proxy.
        config.scrapes.timeout_offset = Duration::ZERO;
        assets.exporters = Some(Exporters::from_iter([exporter.clone()]));
        let running = RunningProxy::start(&config, assets)?;
        let exporter = through(exporter, running.address(), &certificates)?;
        Ok(Self { running, exporter })
    }

    /// The probed exporter, reached through the proxy. For the client, an ordinary exporter.
    pub(super) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Stops the proxy and waits until it has ended.
    pub(super) async fn stop(self) {
        self.running.stop().await;
    }
}

fn through(
    exporter: &Exporter,
    proxy: SocketAddr,
    certificates: &Certificates,
) -> Result<Exporter, Error> {
    let internal = |why: &'static str| Error::Proxy(why.into());
    let port = proxy.port().try_into().map_err(|_| internal("it listens on port 0"))?;
    let name = utf8_percent_encode(exporter.name.as_str(), NON_ALPHANUMERIC);
    let tls = UpstreamTls {
        config: certificates.client_config()?,
        server_name: ServerName::IpAddress(proxy.ip().into()),
    };
    let path = format!("/prometheus?exporter={name}");
    Ok(Exporter {
        name: exporter.name.clone(),
        target: Target::Tcp { host: proxy.ip().to_string(), port },
        tls: Some(tls),
        path: ExporterPath::new(&path).map_err(internal)?,
        authorization: None,
        rules: exporter.rules.clone(),
    })
}
