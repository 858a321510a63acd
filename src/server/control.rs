//! What changes a running server, and tells how it is.

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
};
use crate::{
    assets::{Assets, Front},
    config::Config,
    metrics::Metrics,
    shutdown::Stage,
    trigger::Trigger,
    workers::Pulse,
};

/// Changes a running [`Server`](super::Server), and ends it stage by stage. Clones are of the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) listening: Arc<Mutex<Listening>>,
    pub(super) listener: mpsc::UnboundedSender<Arc<TcpListener>>,
    pub(super) pulse: Pulse,
    pub(super) stage: watch::Sender<Stage>,
    /// Ends the drain. The server alone hears it: it counts what is left before it aborts it.
    pub(super) hurry: Arc<Notify>,
}

/// What a reload changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Where it listens now, if that is new.
    pub listens_anew: Option<SocketAddr>,
    /// Open connections that are no longer welcome. Idle ones close at once, the others behind the
    /// scrape they are at.
    pub dismissed: usize,
}

/// Why a server does not go on with another configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new address cannot be listened on.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificate is gone, and with it what keeps strangers out: a running server does not
    /// fall back to plain HTTP.
    #[error("the certificate is gone; enrolling this host again requires a restart")]
    NoLongerEnrolled,
    /// The shutdown has begun: nobody would accept on a new address.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Handle {
    /// Takes the shutdown one stage further: first a drain, then the end.
    pub fn shut_down(&self) {
        // A reload is over before the shutdown begins, or finds that it has begun.
        let _listening = self.listening();
        let begun = self.stage.send_if_modified(|stage| {
            let serving = *stage == Stage::Serving;
            if serving {
                *stage = Stage::Draining;
            }
            serving
        });
        if !begun {
            self.hurry.notify_one();
        }
    }

    /// Whether the shutdown has not begun.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    /// Waits until the shutdown has begun. Cancel safe.
    pub async fn drain_begins(&self) {
        Stage::after(&mut self.stage.subscribe(), false).await;
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server counts, through all reloads.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.shared.metrics()
    }

    /// Goes on with another configuration, wholly or not at all: new connections and new requests
    /// go by it, scrapes in flight keep what they began with. A new address is listened on before
    /// the old one is let go, also where one of them is that of all interfaces and the port is the
    /// same. What waits in the old one's backlog is accepted, as far as `max-connections` lets it.
    ///
    /// `worker-threads` and the caps on connections stay as they were at the start, and so does
    /// the address of a socket that was given.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing has changed then.
    pub fn reload(&self, config: &Config, assets: Assets) -> Result<Reloaded, ReloadError> {
        let mut listening = self.listening();
        if !self.is_serving() {
            return Err(ReloadError::ShuttingDown);
        }
        let before = self.shared.state();
        if let (Front::Tls(_), Front::NotEnrolled) = (&before.front, &assets.front) {
            return Err(ReloadError::NoLongerEnrolled);
        }
        let mut listens_anew = None;
        match &mut *listening {
            Listening::Where { told, listener: current } if config.listen != *told => {
                let (listener, address) = match current.upgrade() {
                    Some(current) => listen_in_place_of(&current, config.listen)?,
                    None => listen(config.listen)?,
                };
                let listener = Arc::new(listener);
                listens_anew = Some(address);
                let next = Arc::downgrade(&listener);
                self.listener.send(listener).map_err(|_| ReloadError::ShuttingDown)?;
                *told = config.listen;
                *current = next;
            }
            Listening::Where { .. } | Listening::OnGiven => {}
        }
        let state = Arc::new(before.next(config, assets, listens_anew));
        self.shared.state.send_replace(Arc::clone(&state));
        let dismissed = self.shared.connections.dismiss(|peer, wire| state.welcomes(peer, wire));
        Ok(Reloaded { listens_anew, dismissed })
    }

    /// What asks for reloads; whoever reads the files waits on it.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.shared.state().trigger()
    }

    /// Whether it listens on a socket that it was given.
    #[must_use]
    pub fn was_given_its_socket(&self) -> bool {
        match &*self.listening() {
            Listening::OnGiven => true,
            Listening::Where { .. } => false,
        }
    }

    /// How many exporters are enabled.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.shared.state().service.exporters.as_ref().map_or(0, |exporters| exporters.len())
    }

    /// How many connections are open, unfinished handshakes aside.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.count()
    }

    /// What shows whether the workers do their work.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}
