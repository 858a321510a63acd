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
    Shared,
    listen::{Listening, StartError, listen, listen_in_place_of},
    open::{Dismissal, Wire},
    state::State,
};
use crate::{
    common::{peer::Peer, reload::ReloadRequests, shutdown::ShutdownPhase},
    config::Config,
    http::metrics::Metrics,
    service::{
        assets::{Assets, ListenerMode},
        workers::Pulse,
    },
};

/// Controls a running [`Server`](super::Server): reloads its configuration, shuts it down, and
/// reports its state. Clones control the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) listening: Arc<Mutex<Listening>>,
    pub(super) listener: mpsc::UnboundedSender<Arc<TcpListener>>,
    pub(super) pulse: Pulse,
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
        self.shutdown.send_if_modified(|phase| {
            let serving = *phase == ShutdownPhase::Serving;
            if serving {
                *phase = ShutdownPhase::Draining;
            }
            serving
        });
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
        self.shared.metrics()
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
        let connections = &self.shared.connections;
        let judge = |peer: &Peer, wire: &Wire| {
            if state.admits(peer, wire) { Ok(()) } else { Err(Dismissal::Reload) }
        };
        let dismissed = connections.drain_unless(connections.all(), judge).await;
        Ok(Reloaded { new_address, dismissed })
    }

    fn take_over(
        &self,
        config: &Config,
        assets: Assets,
    ) -> Result<(Arc<State>, Option<SocketAddr>), ReloadError> {
        let mut listening = self.listening();
        if !self.is_serving() {
            return Err(ReloadError::ShuttingDown);
        }
        let before = self.shared.state();
        if let (ListenerMode::Tls(_), ListenerMode::NotEnrolled) = (&before.mode, &assets.mode) {
            return Err(ReloadError::NoLongerEnrolled);
        }
        let mut new_address = None;
        match &mut *listening {
            Listening::Where { configured, listener: current }
                if config.listener.address != *configured =>
            {
                let (listener, address) = match current.upgrade() {
                    Some(current) => listen_in_place_of(&current, config.listener.address)?,
                    None => listen(config.listener.address)?,
                };
                let listener = Arc::new(listener);
                new_address = Some(address);
                let next = Arc::downgrade(&listener);
                self.listener.send(listener).map_err(|_| ReloadError::ShuttingDown)?;
                *configured = config.listener.address;
                *current = next;
            }
            Listening::Where { .. } | Listening::OnGiven => {}
        }
        let state = Arc::new(before.next(config, assets, new_address));
        self.shared.state.send_replace(Arc::clone(&state));
        Ok((state, new_address))
    }

    /// The requests for a reload, and whether the last one succeeded. The task that reads the
    /// configuration files waits for the requests.
    #[must_use]
    pub fn reload_requests(&self) -> ReloadRequests {
        self.shared.state().reload_requests()
    }

    /// Whether the server listens on a socket that was passed by the service manager.
    #[must_use]
    pub fn was_given_its_socket(&self) -> bool {
        match &*self.listening() {
            Listening::OnGiven => true,
            Listening::Where { .. } => false,
        }
    }

    /// The number of enabled exporters.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.shared.state().service.exporters.as_ref().map_or(0, |exporters| exporters.len())
    }

    /// The number of open connections, without unfinished handshakes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.count()
    }

    /// Shows whether the worker threads make progress.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}
