//! The state that one reading of the configuration files results in, and the change to the next
//! state.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::watch;

use super::open::{Dismissal, Wire};
use crate::{
    common::{deadline::Budget, peer::Peer, reload::ReloadRequests, shutdown::ShutdownPhase},
    config::{Config, Limits, Transport},
    http::{
        answers::OwnAnswers,
        discovery::ProxyEndpoint,
        enrol::{
            EnrolmentEndpoint, EnrolmentKind, EnrolmentPaths, EnrolmentPolicy, EnrolmentState,
        },
        handler::Service,
        metrics::Metrics,
    },
    service::assets::{Assets, CertificateFile, ListenerMode},
    tls::{ServerTls, wall_clock},
    upstream::Connector,
};

/// The part of a state that all later states share.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    /// The listening address with the real port. A reload may change it.
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) answers: Arc<OwnAnswers>,
    pub(super) reload: ReloadRequests,
    pub(super) enrolment: Arc<EnrolmentState>,
    pub(super) shutdown: watch::Receiver<ShutdownPhase>,
}

/// The state that new connections and new requests use. A scrape keeps the state with which it
/// began.
#[derive(Debug)]
pub(super) struct State {
    pub(super) mode: ListenerMode,
    pub(super) service: Arc<Service>,
    pub(super) limits: Limits,
    lasting: Lasting,
}

impl State {
    pub(super) fn new(config: &Config, assets: Assets, lasting: Lasting) -> Self {
        let Lasting { address, metrics, answers, reload, enrolment, shutdown } = lasting.clone();
        let end = |file: &'_ CertificateFile| file.expires.unix_timestamp();
        reload.applied(SystemTime::now());
        metrics.files_in_use(
            assets.certificates.iter().map(|file| (file.path.as_path(), end(file))),
            assets.revocation_lists.iter().map(|file| (file.path.as_path(), end(file))),
        );
        let advertised = config.pages.advertise.as_ref();
        let proxy_endpoint = ProxyEndpoint {
            scheme: config.listener.transport.scheme(),
            advertised: advertised.map(|advertised| advertised.target(address.port())),
        };
        Self {
            service: Arc::new(Service {
                enrolment: enrolment_endpoint(config, &assets.mode, &enrolment),
                exporters: assets.exporters,
                access: assets.access,
                connector: Connector::Network,
                scrape_timeout_offset: config.scrapes.timeout_offset,
                proxy_endpoint,
                status_page: config.pages.status_page,
                answers,
                metrics,
                reload,
                http_reload: config.reload.over_http,
                shutdown,
            }),
            mode: assets.mode,
            limits: config.limits.clone(),
            lasting,
        }
    }

    /// The next state, after a reload. `new_address` is the new listening address, if it changed.
    /// Exporters that are still configured keep their counts.
    pub(super) fn next(
        &self,
        config: &Config,
        mut assets: Assets,
        new_address: Option<SocketAddr>,
    ) -> Self {
        if let (Some(exporters), Some(before)) = (&mut assets.exporters, &self.service.exporters) {
            exporters.continue_from(before);
        }
        assets.access.continue_from(&self.service.access);
        let mut lasting = self.lasting.clone();
        lasting.address = new_address.unwrap_or(lasting.address);
        Self::new(config, assets, lasting)
    }

    /// The requests for a reload.
    pub(super) fn reload_requests(&self) -> ReloadRequests {
        self.lasting.reload.clone()
    }

    /// The TLS configuration; `None` for plain HTTP.
    pub(super) fn tls(&self) -> Option<&ServerTls> {
        match &self.mode {
            ListenerMode::Tls(tls) => Some(tls),
            ListenerMode::PlainHttp | ListenerMode::NotEnrolled => None,
        }
    }

    /// Whether a connection from this peer would be accepted now.
    pub(super) fn admits(&self, peer: &Peer, wire: &Wire) -> bool {
        self.judge(peer, wire).is_ok()
    }

    /// Like [`State::admits`], but with the reason for a rejection.
    pub(super) fn judge(&self, peer: &Peer, wire: &Wire) -> Result<(), Dismissal> {
        let let_in = match (&self.mode, wire) {
            // After a change between plain HTTP and TLS, no connection stays.
            (ListenerMode::Tls(_), Wire::Plain)
            | (ListenerMode::PlainHttp | ListenerMode::NotEnrolled, Wire::Tls { .. }) => false,
            // Checked here too, because a socket passed by the service manager may listen on any
            // address.
            (ListenerMode::PlainHttp, Wire::Plain) => is_this_host(peer.address.ip()),
            (ListenerMode::NotEnrolled, Wire::Plain)
            | (ListenerMode::Tls(ServerTls { clients: None, .. }), Wire::Tls { .. }) => true,
            (
                ListenerMode::Tls(ServerTls { clients: Some(verifier), .. }),
                Wire::Tls { shown, .. },
            ) => match shown.split_first() {
                Some((leaf, rest)) => {
                    verifier.verify(leaf, rest, wall_clock()).map_err(Dismissal::Certificate)?;
                    true
                }
                None => false,
            },
        };
        if let_in && self.service.access.allows(peer.identity.as_ref()) {
            Ok(())
        } else {
            Err(Dismissal::Reload)
        }
    }

    /// The last time before `now` at which a CA or a CRL expired, in seconds since 1970 (UTC).
    pub(super) fn last_end_before(&self, now: i64) -> Option<i64> {
        self.tls()?.clients.as_ref()?.trust().last_end_before(now)
    }
}

/// Whether plain HTTP from this address stays on this host.
fn is_this_host(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// The enrollment that `try-autossl` configures.
fn enrolment_endpoint(
    config: &Config,
    mode: &ListenerMode,
    state: &Arc<EnrolmentState>,
) -> Option<EnrolmentEndpoint> {
    let kind = match mode {
        ListenerMode::NotEnrolled => EnrolmentKind::First,
        ListenerMode::Tls(_) => EnrolmentKind::Renewal,
        ListenerMode::PlainHttp => return None,
    };
    let Transport::Tls(files) = &config.listener.transport else {
        return None;
    };
    let enrolment = files.enrolment.as_ref()?;
    let policy = EnrolmentPolicy {
        files: EnrolmentPaths {
            key: files.key.value.clone(),
            signing_request: enrolment.signing_request.value.clone(),
            certificate: files.certificate.value.clone(),
            ca: enrolment.ca.value.clone(),
        },
        from: config.enrolment.from.clone(),
        window: config.enrolment.window.map(Budget::as_duration),
        key: config.enrolment.key,
        body_timeout: config.limits.header_timeout.as_duration(),
    };
    Some(EnrolmentEndpoint::new(kind, policy, Arc::clone(state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_accepted_from_loopback_addresses_only() {
        let is_this_host = |ip: &str| is_this_host(ip.parse().expect("an address"));
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_host(ip), "{ip}");
        }
        for ip in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_this_host(ip), "{ip}");
        }
    }
}
