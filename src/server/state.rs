//! What one reading of the files gave, and the change from one to the next.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

use super::open::Wire;
use crate::{
    assets::{Assets, Front},
    config::{Config, Limits, Security},
    deadline::Budget,
    enrol::{Desk, Files, Occasion, Office, Terms},
    handler::Service,
    metrics::Metrics,
    peer::Peer,
    shutdown::Stage,
    tls::{ServerTls, wall_clock},
    trigger::Trigger,
    upstream::Connector,
};

/// What new connections and new requests go by. A scrape keeps the one it began with.
#[derive(Debug)]
pub(super) struct State {
    pub(super) front: Front,
    pub(super) service: Arc<Service>,
    pub(super) limits: Limits,
    pub(super) trigger: Trigger,
}

impl State {
    pub(super) fn new(
        config: &Config,
        assets: Assets,
        metrics: Arc<Metrics>,
        trigger: Trigger,
        stage: watch::Receiver<Stage>,
        office: &Arc<Office>,
    ) -> Self {
        let certificates = assets.certificates.iter();
        metrics.configured(
            SystemTime::now(),
            certificates.map(|file| (file.path.as_path(), file.expires.unix_timestamp())),
        );
        Self {
            service: Arc::new(Service {
                enrolment: enrolment(config, &assets.front, office),
                exporters: assets.exporters,
                access: assets.access,
                connector: Connector::Network,
                scrape_timeout_offset: config.scrape_timeout_offset,
                status_page: config.status_page,
                metrics,
                reload: config.http_reload.then(|| trigger.clone()),
                stage,
            }),
            front: assets.front,
            limits: config.limits.clone(),
            trigger,
        }
    }

    /// The state after this one. Exporters that stay go on counting.
    pub(super) fn next(&self, config: &Config, mut assets: Assets, office: &Arc<Office>) -> Self {
        if let (Some(exporters), Some(before)) = (&mut assets.exporters, &self.service.exporters) {
            exporters.continue_from(before);
        }
        let Service { metrics, stage, .. } = &*self.service;
        let trigger = self.trigger.clone();
        Self::new(config, assets, Arc::clone(metrics), trigger, stage.clone(), office)
    }

    /// The TLS server, unless the port speaks plain HTTP.
    pub(super) fn tls(&self) -> Option<&ServerTls> {
        match &self.front {
            Front::Tls(tls) => Some(tls),
            Front::PlainHttp | Front::NotEnrolled => None,
        }
    }

    /// Whether a connection with this peer would be let in now.
    pub(super) fn welcomes(&self, peer: &Peer, wire: &Wire) -> bool {
        let let_in = match (&self.front, wire) {
            // From plain HTTP to TLS, and back: nobody stays.
            (Front::Tls(_), Wire::Plain)
            | (Front::PlainHttp | Front::NotEnrolled, Wire::Tls { .. }) => false,
            (Front::PlainHttp | Front::NotEnrolled, Wire::Plain)
            | (Front::Tls(ServerTls { clients: None, .. }), Wire::Tls { .. }) => true,
            (Front::Tls(ServerTls { clients: Some(verifier), .. }), Wire::Tls { shown }) => shown
                .split_first()
                .is_some_and(|(leaf, rest)| verifier.verifies(leaf, rest, wall_clock())),
        };
        let_in && self.service.access.allows(peer.identity.as_ref())
    }
}

/// What `try-autossl` asks for.
fn enrolment(config: &Config, front: &Front, office: &Arc<Office>) -> Option<Desk> {
    let occasion = match front {
        Front::NotEnrolled => Occasion::First,
        Front::Tls(_) => Occasion::Renewal,
        Front::PlainHttp => return None,
    };
    let Security::Tls(files) = &config.security else {
        return None;
    };
    let enrolment = files.enrolment.as_ref()?;
    let terms = Terms {
        files: Files {
            key: files.key.value.clone(),
            signing_request: enrolment.signing_request.value.clone(),
            certificate: files.certificate.value.clone(),
            ca: enrolment.ca.value.clone(),
        },
        from: config.enrol_from.clone(),
        window: config.enrol_window.map(Budget::as_duration),
        key: config.enrol_key,
        body_timeout: config.limits.header_timeout.as_duration(),
    };
    Some(Desk::new(occasion, terms, Arc::clone(office)))
}
