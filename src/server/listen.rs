//! Where connections come in.

use std::{io, net::SocketAddr, sync::Weak};

#[cfg(unix)]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::accept::BACKLOG;

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
#[derive(Clone, Debug)]
pub(super) enum Listening {
    /// Where it was told to.
    Where {
        /// As it was told, which is not the real address with port 0.
        told: SocketAddr,
        /// Gone when the server accepts no more, which alone keeps it open.
        listener: Weak<TcpListener>,
    },
    /// On a socket that it was given, whatever the configuration says.
    OnGiven,
}

/// Listens, and says where: with the real port.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    with_address(try_listen(address), address)
}

/// The same in place of a listener, which goes on until it is dropped.
///
/// On one port the address of all interfaces and that of one are in each other's way. What is in
/// the way of another socket than `before` is an error here too.
pub(super) fn listen_in_place_of(
    before: &TcpListener,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = try_listen(address);
    #[cfg(unix)]
    let listener = listener.or_else(|error| {
        let port = before.local_addr()?.port();
        if error.kind() == io::ErrorKind::AddrInUse && address.port() == port {
            try_listen_beside(before, address)
        } else {
            Err(error)
        }
    });
    with_address(listener, address)
}

fn with_address(
    listener: io::Result<TcpListener>,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    listener
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
        .map_err(|source| StartError::Listen { address, source })
}

fn try_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Two sockets of one user may listen on a port if both say so (`SO_REUSEPORT`). It is said for this
/// moment only, or the next process that changes its address could get in beside this one.
#[cfg(unix)]
fn try_listen_beside(before: &TcpListener, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    let _shared = SharedPort::of(before)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    SockRef::from(&listener).set_reuse_port(false)?;
    Ok(listener)
}

fn new_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds connections of its predecessor in TIME-WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// A listener that shares its port, until this is dropped.
#[cfg(unix)]
struct SharedPort<'a>(SockRef<'a>);

#[cfg(unix)]
impl<'a> SharedPort<'a> {
    fn of(listener: &'a TcpListener) -> io::Result<Self> {
        let socket = SockRef::from(listener);
        socket.set_reuse_port(true)?;
        Ok(Self(socket))
    }
}

#[cfg(unix)]
impl Drop for SharedPort<'_> {
    fn drop(&mut self) {
        // It could be said; so the contrary can be.
        let _ = self.0.set_reuse_port(false);
    }
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
