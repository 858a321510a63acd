//! The proxy without its sockets: what answers requests, in this process.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use scrapegate::{
    access::Access,
    activity::{Activity, Timeouts},
    deadline::Budget,
    exporter::{Exporter, ExporterName, ExporterPath, Integrity, ScrapeRules, Target},
    handler::Service,
    peer::Peer,
    server::serve_stream,
    shutdown::Stage,
    upstream::Connector,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::PATIENCE;

/// The exporter `n`, which nothing but a connector of one's own reaches.
pub(crate) fn exporter() -> Exporter {
    let budget = Budget::new(PATIENCE).expect("within the limits");
    let rules = ScrapeRules {
        interval: budget,
        timeout: budget,
        connect_timeout: budget,
        max_concurrent: NonZeroU32::MIN,
        max_body: None,
        forward_params: true,
        integrity: Integrity::Strict,
    };
    let name = ExporterName::new("n").expect("a name");
    let target = Target::Tcp { host: "nowhere.invalid".to_owned(), port: NonZeroU16::MIN };
    let path = ExporterPath::new("/metrics").expect("a path");
    Exporter::new(name, target, None, path, None, rules)
}

/// What answers requests for [`exporter`].
pub(crate) struct Proxy {
    service: Arc<Service>,
    /// Without it the proxy would take itself for shut down.
    _stage: watch::Sender<Stage>,
}

impl Proxy {
    /// Reaches the exporter as `connector` does.
    pub(crate) fn new(connector: Connector) -> Self {
        let (_stage, stage) = watch::channel(Stage::Serving);
        let service = Service {
            exporters: Some([exporter()].into_iter().collect()),
            access: Access::default(),
            connector,
            scrape_timeout_offset: Duration::ZERO,
            reload: None,
            stage,
        };
        Self { service: Arc::new(service), _stage }
    }

    /// Answers what comes on `stream` until it is over.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        let timeouts = Timeouts { header: PATIENCE, idle: PATIENCE, stall: PATIENCE };
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: None };
        serve_stream(stream, peer, Arc::new(Activity::new(timeouts)), &self.service).await;
    }
}
