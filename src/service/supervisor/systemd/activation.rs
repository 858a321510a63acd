//! The listening socket that systemd may pass to the process (`sd_listen_fds(3)`).

use std::{io, net::TcpListener};

/// Why the socket from systemd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// More than one socket. The socket unit must have a single `ListenStream=`.
    #[error("expected one socket from systemd, got {0}")]
    Several(usize),
    /// Another kind of socket, or another kind of file.
    #[error("the file descriptor from systemd is not a TCP socket")]
    NotTcp(#[source] io::Error),
    /// A connected socket. The socket unit must have `Accept=no`.
    #[error("the socket from systemd is not listening; set Accept=no in the socket unit")]
    NotListening,
}

/// The listening socket from systemd, or `None` without socket activation.
///
/// # Errors
/// See [`ActivationError`].
#[cfg(unix)]
pub fn listener() -> Result<Option<TcpListener>, ActivationError> {
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() > 1 {
        return Err(ActivationError::Several(sockets.len()));
    }
    let listener = sockets.take_tcp_listener(0).map_err(ActivationError::NotTcp)?;
    match &listener {
        Some(socket) if !socket2::SockRef::from(socket).is_listener().unwrap_or(false) => {
            Err(ActivationError::NotListening)
        }
        Some(_) | None => Ok(listener),
    }
}

/// This system has no socket activation.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn listener() -> Result<Option<TcpListener>, ActivationError> {
    Ok(None)
}
