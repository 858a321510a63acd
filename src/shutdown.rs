//! From serving to gone: the stages, and the signals that lead from one to the next.

use std::io;

use tokio::sync::watch;

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// Connections are accepted and served.
    #[default]
    Serving,
    /// No new connections; scrapes in flight are finished.
    Draining,
    /// What is left is aborted.
    Ended,
}

impl Stage {
    /// Waits for the stage that a task has not acted on yet: `Draining` until it is `draining`,
    /// then `Ended`. Cancel safe.
    pub async fn after(stage: &mut watch::Receiver<Self>, draining: bool) -> Self {
        let reached = stage.wait_for(|stage| match stage {
            Self::Serving => false,
            Self::Draining => !draining,
            Self::Ended => true,
        });
        // A sender that is gone is a server that is gone.
        reached.await.map_or(Self::Ended, |stage| *stage)
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `SIGTERM` or `SIGINT`: one stage further.
    ShutDown,
    /// `SIGHUP`: read all files again.
    Reload,
}

/// The signals that a server acts on.
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
    /// Starts to listen for `SIGTERM`, `SIGINT` and `SIGHUP` (Ctrl-C elsewhere).
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
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

    /// Waits for the next one. Cancel safe.
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
            // Without a handler there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }
}
