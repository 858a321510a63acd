//! What one reading of the files gave, and the change from one to the next.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    assets::Assets,
    config::{Config, Limits},
    discovery::Place,
    handler::Service,
    metrics::Metrics,
    peer::Peer,
    shutdown::Stage,
    tls::{ServerTls, wall_clock},
    upstream::Connector,
};

/// What new connections and new requests go by. A scrape keeps the one it began with.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tls: Option<ServerTls>,
    pub(super) service: Arc<Service>,
    pub(super) limits: Limits,
    /// Where it listens, with the real port.
    address: SocketAddr,
}

impl State {
    pub(super) fn new(
        config: &Config,
        assets: Assets,
        address: SocketAddr,
        metrics: Arc<Metrics>,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        let certificates = assets.certificates.iter();
        metrics.configured(
            SystemTime::now(),
            certificates.map(|file| (file.path.as_path(), file.expires.unix_timestamp())),
        );
        let advertised = config.advertise.as_ref();
        let place = Place {
            scheme: config.security.scheme(),
            advertised: advertised.map(|advertised| advertised.target(address.port())),
        };
        Self {
            tls: assets.tls,
            service: Arc::new(Service {
                exporters: assets.exporters,
                access: assets.access,
                connector: Connector::Network,
                scrape_timeout_offset: config.scrape_timeout_offset,
                place,
                status_page: config.status_page,
                metrics,
                stage,
            }),
            limits: config.limits.clone(),
            address,
        }
    }

    /// The state after this one, on another address if there is one. Exporters that stay go on
    /// counting.
    pub(super) fn next(
        &self,
        config: &Config,
        mut assets: Assets,
        listens_anew: Option<SocketAddr>,
    ) -> Self {
        if let (Some(exporters), Some(before)) = (&mut assets.exporters, &self.service.exporters) {
            exporters.continue_from(before);
        }
        let Service { metrics, stage, .. } = &*self.service;
        let address = listens_anew.unwrap_or(self.address);
        Self::new(config, assets, address, Arc::clone(metrics), stage.clone())
    }

    /// Whether a connection with this peer, who showed `chain`, would be let in now.
    pub(super) fn welcomes(&self, peer: &Peer, chain: &[CertificateDer<'static>]) -> bool {
        let let_in = match (&self.tls, chain.split_first()) {
            // Plain HTTP, or TLS that asks for no certificate.
            (None, _) | (Some(ServerTls { clients: None, .. }), _) => true,
            (Some(ServerTls { clients: Some(_), .. }), None) => false,
            (Some(ServerTls { clients: Some(verifier), .. }), Some((leaf, rest))) => {
                verifier.verifies(leaf, rest, wall_clock())
            }
        };
        let_in && self.service.access.allows(peer.identity.as_ref())
    }
}
