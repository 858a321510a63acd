//! Signals for commands that have to clean up before they exit.

use std::io;

/// Ctrl-C, `SIGTERM` and `SIGHUP`. Without `SIGHUP`, a closed terminal would leave files behind.
#[cfg(unix)]
pub(super) struct StopSignal([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl StopSignal {
    pub(super) fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next signal. Cancel safe.
    pub(super) async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
pub(super) struct StopSignal;

#[cfg(not(unix))]
impl StopSignal {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn received(&mut self) {
        // Without a handler Ctrl-C ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
