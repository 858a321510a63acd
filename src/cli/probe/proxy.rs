//! A scrapegate in this process, in front of the exporter that is probed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;

use crate::{
    cli::throwaway::{self, Certificates, Error, Files, RunningProxy},
    exporter::{Exporter, ExporterPath, Exporters, Target, UpstreamTls},
};

/// A free port, which nobody else can reach.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// See the module's documentation. Dropped, it ends.
pub(super) struct OwnProxy {
    running: RunningProxy,
    exporter: Exporter,
}

impl OwnProxy {
    /// Starts it with certificates of its own. Its files are gone when this returns.
    ///
    /// # Errors
    /// When the machine refuses a folder, a port or threads.
    pub(super) fn start(exporter: &Exporter) -> Result<Self, Error> {
        let certificates = Certificates::generate("scrapegate probe", LISTEN.ip())?;
        let files = Files::write(&std::env::temp_dir(), &certificates, LISTEN, "")
            .map_err(Error::Folder)?;
        let loaded = throwaway::load(&files.config(), LISTEN);
        files.remove().map_err(Error::Folder)?;
        let (mut config, mut assets) = loaded?;
        // The time that is left reaches the exporter as it does without the proxy.
        config.scrape_timeout_offset = Duration::ZERO;
        assets.exporters = Some(Exporters::from_iter([exporter.clone()]));
        let running = RunningProxy::start(&config, assets)?;
        let exporter = behind(exporter, running.address(), &certificates)?;
        Ok(Self { running, exporter })
    }

    /// The exporter as it is reached through the proxy: to the same client just another one.
    pub(super) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Ends it and waits for its end.
    pub(super) async fn stop(self) {
        self.running.stop().await;
    }
}

fn behind(
    exporter: &Exporter,
    proxy: SocketAddr,
    certificates: &Certificates,
) -> Result<Exporter, Error> {
    let mistaken = |why: &'static str| Error::Proxy(why.into());
    let port = proxy.port().try_into().map_err(|_| mistaken("it listens on port 0"))?;
    let name = utf8_percent_encode(exporter.name.as_str(), NON_ALPHANUMERIC);
    Ok(Exporter::new(
        exporter.name.clone(),
        Target::Tcp { host: proxy.ip().to_string(), port },
        Some(UpstreamTls {
            config: certificates.client_config()?,
            server_name: ServerName::IpAddress(proxy.ip().into()),
        }),
        ExporterPath::new(&format!("/prometheus?exporter={name}")).map_err(mistaken)?,
        None,
        exporter.rules.clone(),
    ))
}
