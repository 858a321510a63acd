//! The phases of a shutdown.

use tokio::sync::watch;

/// The phase of the shutdown. Later phases are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ShutdownPhase {
    /// The proxy accepts and serves connections.
    #[default]
    Serving,
    /// The proxy accepts no connections. Scrapes in flight continue, up to `drain-timeout`.
    Draining,
    /// The remaining scrapes are aborted.
    Ended,
}

impl ShutdownPhase {
    /// Moves to [`ShutdownPhase::Draining`]. Returns whether the phase was
    /// [`ShutdownPhase::Serving`]; otherwise nothing changes.
    pub fn begin_drain(shutdown: &watch::Sender<Self>) -> bool {
        shutdown.send_if_modified(|phase| {
            let serving = *phase == Self::Serving;
            if serving {
                *phase = Self::Draining;
            }
            serving
        })
    }

    /// Waits for a phase after this one. Cancel safe.
    pub async fn next(self, shutdown: &mut watch::Receiver<Self>) -> Self {
        // The server owns the sender, so without a sender the server has ended.
        shutdown.wait_for(|phase| *phase > self).await.map_or(Self::Ended, |phase| *phase)
    }
}
