//! Where connections come in.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use, is not this host's, or needs privileges.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket that was given cannot be used.
    #[error("cannot listen on the socket that was passed on")]
    Given(#[source] io::Error),
    /// The worker threads cannot be started.
    #[error("cannot start the worker threads")]
    Workers(#[source] io::Error),
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// Where it was told to, which is not the real address with port 0.
    Where(SocketAddr),
    /// On a socket that it was given, whatever the configuration says.
    OnGiven,
}

/// Listens, and says where: with the real port.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    try_listen(address)
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
        .map_err(|source| StartError::Listen { address, source })
}

fn try_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds connections of its predecessor in TIME-WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes over a socket that listens already. Its backlog stays as it is.
pub(super) fn take_over(
    listener: std::net::TcpListener,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let taken = || {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    taken().map_err(StartError::Given)
}
