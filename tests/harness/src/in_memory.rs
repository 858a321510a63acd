//! The proxy without sockets: the code that answers requests, in the test's process.

pub mod counted;
pub mod rig;
pub mod scripted;
pub mod tls;

use std::{
    num::{NonZeroU16, NonZeroU32},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use scrapegate::{
    common::{
        compression::CompressionRules,
        deadline::Budget,
        exporter::{Exporter, ExporterName, ExporterPath, Integrity, ScrapeRules, Target},
        families::{FamilyPattern, FamilyRules},
        peer::Peer,
        reload::ReloadRequests,
        shutdown::ShutdownPhase,
    },
    config::Scheme,
    downstream::{
        requests::serve_stream,
        state::{ConnectionState, Timeouts},
    },
    http::{access::Access, discovery::ProxyEndpoint, metrics::Format, state::AppState},
    scrape::transform::TransformRules,
    upstream::Connector,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::PATIENCE;

/// The exporter `n`, with a deadline of [`PATIENCE`]. Only the test's own connector can reach it.
pub fn exporter() -> Exporter {
    exporter_within(PATIENCE)
}

/// The same exporter with this deadline.
pub fn exporter_within(deadline: Duration) -> Exporter {
    let budget = Budget::new(deadline).expect("within the limits");
    let rules = ScrapeRules {
        interval: budget,
        timeout: budget,
        connect_timeout: budget,
        max_concurrent: NonZeroU32::MIN,
        max_body: None,
        forward_params: true,
        integrity: Integrity::Strict,
        compression: CompressionRules::default(),
        families: None,
    };
    let name = ExporterName::new("n").expect("a name");
    let target = Target::Tcp { host: "nowhere.invalid".to_owned(), port: NonZeroU16::MIN };
    let path = ExporterPath::new("/metrics").expect("a path");
    Exporter { name, target, tls: None, path, authorization: None, rules }
}

/// The same exporter with `metrics-drop`.
///
/// # Panics
///
/// If `drop` is not a regular expression.
pub fn exporter_without(drop: &str) -> Exporter {
    let mut exporter = exporter();
    let drop = FamilyPattern::new(drop).expect("a regular expression");
    exporter.rules.families = FamilyRules::new(None, Some(drop));
    exporter
}

/// Answers requests for [`exporter`].
pub struct Proxy {
    service: Arc<AppState>,
    /// Kept alive, because dropping it would start the shutdown.
    shutdown: watch::Sender<ShutdownPhase>,
}

impl Proxy {
    /// A proxy that reaches the exporter through `connector`.
    pub fn new(connector: Connector) -> Self {
        Self::of([exporter()], connector)
    }

    /// A proxy with these exporters, which it reaches through `connector`.
    pub fn of(exporters: impl IntoIterator<Item = Exporter>, connector: Connector) -> Self {
        Self::transforming(exporters, connector, TransformRules::default())
    }

    /// The same proxy, with transforms for the bodies of the exporters.
    pub fn transforming(
        exporters: impl IntoIterator<Item = Exporter>,
        connector: Connector,
        transforms: TransformRules,
    ) -> Self {
        let (sender, shutdown) = watch::channel(ShutdownPhase::Serving);
        let service = AppState {
            exporters: Some(exporters.into_iter().collect()),
            access: Access::default(),
            enrolment: None,
            connector,
            transforms,
            scrape_timeout_offset: Duration::ZERO,
            proxy_endpoint: ProxyEndpoint { scheme: Scheme::Https, advertised: None },
            status_page: true,
            answers: Arc::default(),
            metrics: Arc::default(),
            reload: ReloadRequests::default(),
            http_reload: false,
            shutdown,
        };
        Self { service: Arc::new(service), shutdown: sender }
    }

    /// Ends the drain at once: scrapes in flight are aborted.
    pub fn end(&self) {
        self.shutdown.send_replace(ShutdownPhase::Ended);
    }

    /// The metrics page in the text format, with one certificate configured.
    pub fn page(&self) -> String {
        let metrics = &self.service.metrics;
        metrics.files_in_use([(Path::new("/server.pem"), 0)], [(Path::new("/clients.crl"), 0)]);
        let (exporters, reload) = (self.service.exporters.as_ref(), self.service.reload.state());
        metrics.render(exporters, reload, Format::Text, Instant::now())
    }

    /// Serves requests from `stream` until the connection ends.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        self.serve_as(stream, connection_state()).await;
    }

    /// Serves requests from a stream that reports to the connection's `connection_state` itself.
    pub async fn serve_as<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        connection_state: Arc<ConnectionState>,
    ) {
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: None };
        serve_stream(stream, peer, connection_state, &self.service).await;
    }

    /// Whether all permits of all exporters are available, so that none has leaked.
    pub fn has_free_slots(&self) -> bool {
        let exporters = self.service.exporters.iter();
        exporters.flat_map(|all| all.names().filter_map(|name| all.get(name))).all(|exporter| {
            // Takes all permits at the same time.
            let slots =
                (0..exporter.config.rules.max_concurrent.get()).map(|_| exporter.try_acquire());
            slots.collect::<Vec<_>>().iter().all(Option::is_some)
        })
    }
}

/// The connection_state of a connection whose timeouts are all [`PATIENCE`].
pub fn connection_state() -> Arc<ConnectionState> {
    activity_within(PATIENCE)
}

/// The connection_state of a connection whose timeouts are all `timeout`.
pub fn activity_within(timeout: Duration) -> Arc<ConnectionState> {
    let timeouts = Timeouts { header: timeout, idle: timeout, stall: timeout };
    Arc::new(ConnectionState::new(timeouts))
}
