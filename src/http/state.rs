//! The state that all requests share.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    access::Access, answers::OwnAnswers, discovery::ProxyEndpoint, enrol::EnrolmentEndpoint,
    metrics::Metrics,
};
use crate::{
    common::{reload::ReloadRequests, shutdown::ShutdownPhase},
    scrape::{exporters::Exporters, transform::TransformRules},
    upstream::Connector,
};

/// The state that all requests share. A reload replaces it as a whole.
#[derive(Debug)]
pub struct AppState {
    /// The configured exporters. `None` with `[prometheus] enabled = False`.
    pub exporters: Option<Exporters>,
    /// Which clients may ask: the allow-list and HTTP Basic.
    pub access: Access,
    /// Enrollment of this host at a monitoring server. `None` without `try-autossl`.
    pub enrolment: Option<EnrolmentEndpoint>,
    /// Connects to exporters.
    pub connector: Connector,
    /// Which transforms the bodies of scrapes pass through.
    pub transforms: TransformRules,
    /// How much earlier than the scraper's own timeout a scrape must end. `0.25` s by default.
    pub scrape_timeout_offset: std::time::Duration,
    /// Under which address service discovery announces the proxy.
    pub proxy_endpoint: ProxyEndpoint,
    /// Whether the status page is served at `/`.
    pub status_page: bool,
    /// Bounds the memory of the proxy's own responses that clients do not read.
    pub answers: Arc<OwnAnswers>,
    /// All counts that do not belong to a single exporter.
    pub metrics: Arc<Metrics>,
    /// Requests for a reload, and whether the last one succeeded.
    pub reload: ReloadRequests,
    /// Whether `POST /-/reload` is served.
    pub http_reload: bool,
    /// The phase of the shutdown.
    pub shutdown: watch::Receiver<ShutdownPhase>,
}

impl AppState {
    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shutdown.borrow() != ShutdownPhase::Serving
    }
}
