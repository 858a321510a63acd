//! The sockets: the listening socket, its replacement when a reload changes the address, and the
//! options of an accepted socket.

use std::{io, net::SocketAddr, time::Duration};

#[cfg(unix)]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Length of the listener's backlog: connections that the kernel has completed and that wait to be
/// accepted, from all addresses together. The kernel may cap the length at a lower value
/// (`net.core.somaxconn`, 4096 by default since Linux 5.4).
///
/// A full backlog drops new connections, and their clients retry after one second. A flood of
/// 25 000 connections a second fills the backlog in 160 ms. On a busy machine, this thread may
/// wait that long for a CPU.
pub const BACKLOG: u32 = 4096;

/// How long after the stall timeout the kernel ends a connection whose scraper does not acknowledge
/// data (`TCP_USER_TIMEOUT`). This bounds the resources that a vanished host can use.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(20);

/// Limit for the bytes that the kernel accepts before it can send them (`TCP_NOTSENT_LOWAT`).
/// Without this limit, a scraper that does not read would also fill a send buffer, which grows to
/// megabytes.
pub(super) const MOST_UNSENT: usize = 256 * 1024;

/// The same limit for a scraper that has proved to be fast. A larger one saves wake-ups when the
/// kernel paces what it sends, as it does with the congestion control BBR. With BBR and Content-Length,
/// 2 MiB takes a tenth less CPU time than 1 MiB. 4 MiB saves no more (`benches/README.md`).
pub(super) const MOST_UNSENT_OF_FAST: usize = 2 * 1024 * 1024;

/// The same limit for answers that scrapegate compresses. A compressed byte stands for several bytes
/// of the exporter, so the exporter is done earlier.
pub(super) const MOST_UNSENT_COMPRESSED: usize = 1536 * 1024;

/// Listens on `address`. Returns the address with the real port.
///
/// # Errors
/// The error of the operating system: the address is in use, does not belong to this host, or
/// requires privileges.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    with_address(try_listen(address)?)
}

/// Listens on `address` while `before` still listens. Returns the address with the real port.
///
/// On the same port, a socket for all interfaces and a socket for one interface exclude each other.
/// Only a conflict with `before` is resolved here; a conflict with any other socket is an error.
///
/// # Errors
/// See [`listen`].
pub fn listen_in_place_of(
    before: &TcpListener,
    address: SocketAddr,
) -> io::Result<(TcpListener, SocketAddr)> {
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
    with_address(listener?)
}

/// Takes over a socket that already listens. Its backlog keeps its length.
///
/// # Errors
/// The error of the operating system.
pub fn take_over(listener: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    listener.set_nonblocking(true)?;
    with_address(TcpListener::from_std(listener)?)
}

/// Sets the options of an accepted socket.
///
/// # Errors
/// The error of the operating system, usually because the connection is already lost.
pub(super) fn set_options(stream: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    // Without this option, the last small write of a response waits for a delayed acknowledgement,
    // 40 ms.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(stall_timeout + SILENCE))?;
    }
    allow_unsent(stream, MOST_UNSENT)
}

/// Limits the bytes that the kernel accepts before it can send them. Other systems than Linux keep
/// their own limit.
///
/// # Errors
/// The error of the operating system.
pub(super) fn allow_unsent(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX))?;
    #[cfg(not(target_os = "linux"))]
    let (_, _) = (stream, bytes);
    Ok(())
}

fn with_address(listener: TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    let address = listener.local_addr()?;
    Ok((listener, address))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_accepted_socket_sends_at_once_and_ends_when_its_scraper_is_silent() {
        let (listener, address) = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let _peer = TcpStream::connect(address).await.unwrap();
        let stream = listener.accept().await.unwrap().0;
        set_options(&stream, Duration::from_secs(10)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        let unsent = usize::try_from(socket.tcp_notsent_lowat().unwrap()).unwrap();
        assert_eq!(unsent, MOST_UNSENT);
    }
    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_listener_that_is_replaced_shares_its_port_and_only_for_a_moment() {
        let shares = |listener: &TcpListener| SockRef::from(listener).reuse_port().unwrap();
        // The kernel chooses a port that is free on all addresses.
        let (before, old) = listen(([0, 0, 0, 0], 0).into()).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], old.port()));
        let (after, new) = listen_in_place_of(&before, local).unwrap();
        assert_eq!(new, local);
        assert!(!shares(&before) && !shares(&after));

        let (free, address) = listen_in_place_of(&before, ([127, 0, 0, 1], 0).into()).unwrap();
        assert!(address.port() != old.port() && !shares(&free));

        // A socket of the same user would share its port, if it was asked.
        SockRef::from(&free).set_reuse_port(true).unwrap();
        let refused = listen_in_place_of(&before, address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
