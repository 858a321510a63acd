//! Makes the serving state from one reading of the configuration files.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use tokio::sync::watch;

use crate::{
    common::{deadline::Budget, reload::ReloadRequests, shutdown::ShutdownPhase},
    config::{Config, Transport},
    downstream::serving::{ListenerMode, ServingState},
    http::{
        answers::OwnAnswers,
        discovery::ProxyEndpoint,
        enrol::{
            EnrolmentEndpoint, EnrolmentKind, EnrolmentPaths, EnrolmentPolicy, EnrolmentState,
        },
        metrics::Metrics,
        state::AppState,
    },
    scrape::transform::{CompressionPermits, TransformRules},
    service::assets::{Assets, CertificateFile},
    upstream::Connector,
};

/// What stays the same over all reloads.
#[derive(Debug)]
pub(super) struct ProcessState {
    pub(super) metrics: Arc<Metrics>,
    pub(super) reload: ReloadRequests,
    answers: Arc<OwnAnswers>,
    enrolment: Arc<EnrolmentState>,
    shutdown: watch::Receiver<ShutdownPhase>,
}

impl ProcessState {
    /// The state of a process that starts now.
    pub(super) fn new(shutdown: watch::Receiver<ShutdownPhase>) -> Self {
        let reload = ReloadRequests::default();
        Self {
            metrics: Arc::default(),
            answers: Arc::default(),
            enrolment: Arc::new(EnrolmentState::open(reload.clone())),
            reload,
            shutdown,
        }
    }

    /// The first serving state. `address` is the listening address with the real port.
    pub(super) fn serving(
        &self,
        config: &Config,
        assets: Assets,
        address: SocketAddr,
    ) -> ServingState {
        let compressions = CompressionPermits::new(config.scrapes.max_compressions);
        self.serving_with(compressions, config, assets, address)
    }

    fn serving_with(
        &self,
        compressions: CompressionPermits,
        config: &Config,
        assets: Assets,
        address: SocketAddr,
    ) -> ServingState {
        let end = |file: &'_ CertificateFile| file.expires.unix_timestamp();
        self.reload.applied(SystemTime::now());
        self.metrics.files_in_use(
            assets.certificates.iter().map(|file| (file.path.as_path(), end(file))),
            assets.revocation_lists.iter().map(|file| (file.path.as_path(), end(file))),
        );
        let advertised = config.pages.advertise.as_ref();
        let proxy_endpoint = ProxyEndpoint {
            scheme: config.listener.transport.scheme(),
            advertised: advertised.map(|advertised| advertised.target(address.port())),
        };
        ServingState {
            service: Arc::new(AppState {
                enrolment: enrolment_endpoint(config, &assets.mode, &self.enrolment),
                exporters: assets.exporters,
                access: assets.access,
                connector: Connector::Network,
                transforms: TransformRules::with_permits(compressions),
                scrape_timeout_offset: config.scrapes.timeout_offset,
                proxy_endpoint,
                status_page: config.pages.status_page,
                answers: Arc::clone(&self.answers),
                metrics: Arc::clone(&self.metrics),
                reload: self.reload.clone(),
                http_reload: config.reload.over_http,
                shutdown: self.shutdown.clone(),
            }),
            mode: assets.mode,
            limits: config.limits.clone(),
        }
    }

    /// The serving state after `before`. Exporters that are still configured keep their counts.
    pub(super) fn next(
        &self,
        before: &ServingState,
        config: &Config,
        mut assets: Assets,
        address: SocketAddr,
    ) -> ServingState {
        let exporters_before = &before.service.exporters;
        if let (Some(exporters), Some(before)) = (&mut assets.exporters, exporters_before) {
            exporters.continue_from(before);
        }
        assets.access.continue_from(&before.service.access);
        let mut compressions = CompressionPermits::new(config.scrapes.max_compressions);
        compressions.continue_from(&before.service.transforms.compressions);
        self.serving_with(compressions, config, assets, address)
    }
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
