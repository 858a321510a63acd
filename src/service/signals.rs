//! The signals that the process handles.

use std::io;

/// What a signal asks the process to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// `SIGTERM` or `SIGINT`: drain, or abort if the drain has begun.
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
    pub async fn next(&mut self) -> SignalAction {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::ShutDown,
            _ = self.interrupt.recv() => SignalAction::ShutDown,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
        #[cfg(not(unix))]
        match tokio::signal::ctrl_c().await {
            Ok(()) => SignalAction::ShutDown,
            // The handler cannot be installed, so no signal will arrive here.
            Err(_) => std::future::pending().await,
        }
    }
}
