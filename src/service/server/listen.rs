//! The listening socket, and its replacement when a reload changes the address.

use std::{io, net::SocketAddr, sync::Weak};

#[cfg(unix)]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::downstream::accept::BACKLOG;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server cannot listen on `address`: it is in use, does not belong to this host, or
    /// requires privileges.
    #[error("cannot listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The socket that the service manager passed cannot be used.
    #[error("cannot listen on the socket passed by the service manager")]
    Given(#[source] io::Error),
    /// The worker threads cannot be started.
    #[error("cannot start the worker threads")]
    Workers(#[source] io::Error),
}

/// The socket on which the server listens.
#[derive(Clone, Debug)]
pub(super) enum Listening {
    /// The configured address.
    Where {
        /// The address in the configuration. With port 0, the real address differs.
        configured: SocketAddr,
        /// The server owns the listener, so this is gone when the server no longer accepts.
        listener: Weak<TcpListener>,
    },
    /// A socket that was passed by the service manager. The configured address is ignored.
    OnGiven,
}

/// Listens on `address`. Returns the address with the real port.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    with_address(try_listen(address), address)
}

/// Listens on `address` while `before` still listens.
///
/// On the same port, a socket for all interfaces and a socket for one interface exclude each other.
/// Only a conflict with `before` is resolved here; a conflict with any other socket is an error.
pub(super) fn listen_in_place_of(
    before: &TcpListener,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = try_listen(address);
    #[cfg(unix)]
    let listener = listener.or_else(|error| {
        let port = before.local_addr()?.port();
        if error.kind() == io::ErrorKind::AddrInUse && address.port() == port {
            try_listen_on_shared_port(before, address)
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

/// Two sockets of one user may listen on the same port if both set `SO_REUSEPORT`. The option is
/// set only for this moment. Otherwise another process of the same user could later listen on the
/// same port.
#[cfg(unix)]
fn try_listen_on_shared_port(before: &TcpListener, address: SocketAddr) -> io::Result<TcpListener> {
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
    // After a restart, connections of the previous process may be in TIME-WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Keeps `SO_REUSEPORT` set on a listener until this is dropped.
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
        // Setting the option succeeded, so resetting it succeeds too.
        let _ = self.0.set_reuse_port(false);
    }
}

/// Takes over a socket that already listens. Its backlog keeps its length.
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
