//! What one reading of the files gave, and the change from one to the next.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::watch;

use super::open::{Dismissal, Wire};
use crate::{
    answers::OwnAnswers,
    assets::{Assets, CertificateFile, Front},
    config::{Config, Limits, Security},
    deadline::Budget,
    discovery::Place,
    enrol::{Desk, Files, Occasion, Office, Terms},
    handler::Service,
    metrics::Metrics,
    peer::Peer,
    shutdown::Stage,
    tls::{ServerTls, wall_clock},
    trigger::Trigger,
    upstream::Connector,
};

/// What outlives each state, and is the same in the next.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    /// Where it listens, with the real port; a reload may change it.
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) answers: Arc<OwnAnswers>,
    pub(super) trigger: Trigger,
    pub(super) office: Arc<Office>,
    pub(super) stage: watch::Receiver<Stage>,
}

/// What new connections and new requests go by. A scrape keeps the one it began with.
#[derive(Debug)]
pub(super) struct State {
    pub(super) front: Front,
    pub(super) service: Arc<Service>,
    pub(super) limits: Limits,
    lasting: Lasting,
}

impl State {
    pub(super) fn new(config: &Config, assets: Assets, lasting: Lasting) -> Self {
        let Lasting { address, metrics, answers, trigger, office, stage } = lasting.clone();
        let end = |file: &'_ CertificateFile| file.expires.unix_timestamp();
        metrics.configured(
            SystemTime::now(),
            assets.certificates.iter().map(|file| (file.path.as_path(), end(file))),
            assets.revocation_lists.iter().map(|file| (file.path.as_path(), end(file))),
        );
        let advertised = config.advertise.as_ref();
        let place = Place {
            scheme: config.security.scheme(),
            advertised: advertised.map(|advertised| advertised.target(address.port())),
        };
        Self {
            service: Arc::new(Service {
                enrolment: enrolment(config, &assets.front, &office),
                exporters: assets.exporters,
                access: assets.access,
                connector: Connector::Network,
                scrape_timeout_offset: config.scrape_timeout_offset,
                place,
                status_page: config.status_page,
                answers,
                metrics,
                reload: config.http_reload.then_some(trigger),
                stage,
            }),
            front: assets.front,
            limits: config.limits.clone(),
            lasting,
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
        assets.access.continue_from(&self.service.access);
        let mut lasting = self.lasting.clone();
        lasting.address = listens_anew.unwrap_or(lasting.address);
        Self::new(config, assets, lasting)
    }

    /// What asks for reloads.
    pub(super) fn trigger(&self) -> Trigger {
        self.lasting.trigger.clone()
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
        self.judge(peer, wire).is_ok()
    }

    /// The same, and why not.
    pub(super) fn judge(&self, peer: &Peer, wire: &Wire) -> Result<(), Dismissal> {
        let let_in = match (&self.front, wire) {
            // From plain HTTP to TLS, and back: nobody stays.
            (Front::Tls(_), Wire::Plain)
            | (Front::PlainHttp | Front::NotEnrolled, Wire::Tls { .. }) => false,
            // Also where the listener is not the configured one, as a socket that was passed on.
            (Front::PlainHttp, Wire::Plain) => is_this_host(peer.address.ip()),
            (Front::NotEnrolled, Wire::Plain)
            | (Front::Tls(ServerTls { clients: None, .. }), Wire::Tls { .. }) => true,
            (Front::Tls(ServerTls { clients: Some(verifier), .. }), Wire::Tls { shown, .. }) => {
                match shown.split_first() {
                    Some((leaf, rest)) => {
                        verifier
                            .verify(leaf, rest, wall_clock())
                            .map_err(Dismissal::Certificate)?;
                        true
                    }
                    None => false,
                }
            }
        };
        if let_in && self.service.access.allows(peer.identity.as_ref()) {
            Ok(())
        } else {
            Err(Dismissal::Reload)
        }
    }

    /// The last moment before `now`, in seconds since 1970, up to which a CA or a revocation list
    /// was valid.
    pub(super) fn last_end_before(&self, now: i64) -> Option<i64> {
        self.tls()?.clients.as_ref()?.trust().last_end_before(now)
    }
}

/// Whether plain HTTP from there has not left this host.
fn is_this_host(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_comes_from_a_loopback_address_or_not_at_all() {
        let is_this_host = |ip: &str| is_this_host(ip.parse().expect("an address"));
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_host(ip), "{ip}");
        }
        for ip in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_this_host(ip), "{ip}");
        }
    }
}
