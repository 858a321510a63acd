//! The stages of a shutdown, and the signals that lead from one stage to the next.

use std::io;

use tokio::sync::watch;

/// The stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// The proxy accepts and serves connections.
    #[default]
    Serving,
    /// The proxy accepts no connections. Scrapes in flight continue, up to `drain-timeout`.
    Draining,
    /// The remaining scrapes are aborted.
    Ended,
}

impl Stage {
    /// Waits for the next stage that a task has to act on: `Draining`, or `Ended` if the task is
    /// already `draining`. Cancel safe.
    pub async fn after(stage: &mut watch::Receiver<Self>, draining: bool) -> Self {
        let reached = stage.wait_for(|stage| match stage {
            Self::Serving => false,
            Self::Draining => !draining,
            Self::Ended => true,
        });
        // The server owns the sender, so without a sender the server has ended.
        reached.await.map_or(Self::Ended, |stage| *stage)
    }
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `SIGTERM` or `SIGINT`: go to the next stage of the shutdown.
    ShutDown,
    /// `SIGHUP`: reload all files.
    Reload,
}

/// The signals that the proxy handles.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installs handlers for `SIGTERM`, `SIGINT` and `SIGHUP`, or for Ctrl-C on other systems.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Request {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => Request::ShutDown,
            _ = self.interrupt.recv() => Request::ShutDown,
            _ = self.hangup.recv() => Request::Reload,
        }
        #[cfg(not(unix))]
        match tokio::signal::ctrl_c().await {
            Ok(()) => Request::ShutDown,
            // The handler cannot be installed, so no signal will arrive here.
            Err(_) => std::future::pending().await,
        }
    }
}
