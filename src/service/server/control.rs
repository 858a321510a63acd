//! Control of a running server: reload, shutdown and status.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
};

use super::{
    listening::{Listening, StartError},
    state::ProcessState,
};
use crate::{
    common::{reload::ReloadRequests, shutdown::ShutdownPhase},
    config::Config,
    downstream::{
        context::SessionContext,
        serving::{ListenerMode, ServingState},
    },
    http::metrics::Metrics,
    service::{assets::Assets, workers::Liveness},
};

/// Controls a running [`Server`](super::Server): reloads its configuration, shuts it down, and
/// reports its state. Clones control the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) context: Arc<SessionContext>,
    pub(super) process: Arc<ProcessState>,
    pub(super) listening: Arc<Mutex<Listening>>,
    /// Passes a listener that replaces the current one to the server.
    pub(super) listeners: mpsc::UnboundedSender<Arc<TcpListener>>,
    pub(super) liveness: Liveness,
    pub(super) shutdown: watch::Sender<ShutdownPhase>,
    /// Ends the drain early. Only the server waits for this, because it counts the remaining connections
    /// before it aborts them.
    pub(super) abort: Arc<Notify>,
}

/// What a reload changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The new listening address, if a reload changed it.
    pub new_address: Option<SocketAddr>,
    /// Number of open connections whose client is no longer authorized. Idle ones close at once,
    /// the others after the current scrape.
    pub dismissed: usize,
}

/// Why a server keeps its current configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The server cannot listen on the new address.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificate file is missing. Without it the server could only speak plain HTTP without
    /// authentication, and a running server does not fall back to that.
    #[error("the certificate file is missing; enrolling this host again requires a restart")]
    NoLongerEnrolled,
    /// The shutdown has begun, so a new address would not be served.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Handle {
    /// Starts the drain, unless it has started. The server accepts no more connections, and finishes
    /// the scrapes in flight for at most `drain-timeout`.
    pub fn drain(&self) {
        // Wait for a reload in progress. A later reload finds that the shutdown has begun.
        let _listening = self.listening();
        ShutdownPhase::begin_drain(&self.shutdown);
    }

    /// Ends the drain now, and aborts the remaining connections. Starts the drain first if it has
    /// not started.
    pub fn abort(&self) {
        self.drain();
        self.abort.notify_one();
    }

    /// Whether the shutdown has not begun.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        *self.shutdown.borrow() == ShutdownPhase::Serving
    }

    /// Waits until the shutdown has begun. Cancel safe.
    pub async fn drain_begins(&self) {
        ShutdownPhase::Serving.next(&mut self.shutdown.subscribe()).await;
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics of the process. They survive reloads.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.process.metrics)
    }

    /// Applies another configuration, either completely or not at all.
    ///
    /// New connections and new requests use the new configuration. Scrapes in progress keep the old
    /// one. If the address changes, the server listens on the new address before it closes the old
    /// one. This works even if one of the two addresses covers all interfaces and the port is the
    /// same. Connections in the old backlog are accepted, up to `max-connections`.
    ///
    /// `worker-threads` and the limits on connections keep their values from the start. A socket
    /// that was passed by the service manager keeps its address.
    ///
    /// The new configuration is in use when this future is first polled. Then it goes through the
    /// open connections: if it is dropped, some clients that are no longer authorized stay connected.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]. Nothing has changed in this case.
    pub async fn reload(&self, config: &Config, assets: Assets) -> Result<Reloaded, ReloadError> {
        let (state, new_address) = self.take_over(config, assets)?;
        let dismissed = self.context.drain_unauthorized(&state).await;
        Ok(Reloaded { new_address, dismissed })
    }

    fn take_over(
        &self,
        config: &Config,
        assets: Assets,
    ) -> Result<(Arc<ServingState>, Option<SocketAddr>), ReloadError> {
        let mut listening = self.listening();
        if !self.is_serving() {
            return Err(ReloadError::ShuttingDown);
        }
        let before = self.context.state();
        if let (ListenerMode::Tls(_), ListenerMode::NotEnrolled) = (&before.mode, &assets.mode) {
            return Err(ReloadError::NoLongerEnrolled);
        }
        let mut new_address = None;
        if let Some((listener, next)) = listening.moved_to(config.listener.address)? {
            self.listeners.send(listener).map_err(|_| ReloadError::ShuttingDown)?;
            new_address = Some(next.address);
            *listening = next;
        }
        let state = Arc::new(self.process.next(&before, config, assets, listening.address));
        self.context.replace_state(Arc::clone(&state));
        Ok((state, new_address))
    }

    /// The requests for a reload, and whether the last one succeeded. The task that reads the
    /// configuration files waits for the requests.
    #[must_use]
    pub fn reload_requests(&self) -> ReloadRequests {
        self.process.reload.clone()
    }

    /// Whether the server listens on a socket that was passed by the service manager.
    #[must_use]
    pub fn has_passed_socket(&self) -> bool {
        self.listening().is_passed()
    }

    /// The number of enabled exporters.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.context.state().service.exporters.as_ref().map_or(0, |exporters| exporters.len())
    }

    /// The number of open connections, without unfinished handshakes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.context.connections()
    }

    /// Shows whether the worker threads make progress.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }
}
