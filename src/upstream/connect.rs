//! Connects to an exporter over TCP, a Unix socket or TLS, within its `connect-timeout`.

#[cfg(all(test, unix))]
mod tests;

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::look_up::{InLine, look_up_in_turn};
use crate::common::{
    blocking::BlockingError,
    deadline::Deadline,
    error::{UpstreamError, certificate::explained, lacks_resources},
    exporter::{Exporter, Target},
};

/// How long the first address has before the next address is tried in parallel.
const STAGGER: Duration = Duration::from_millis(100);

/// Pause before the next attempt at a Unix socket whose backlog is full.
#[cfg(unix)]
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// A connection to an exporter.
#[derive(Debug)]
pub struct Stream(StreamKind);

#[derive(Debug)]
enum StreamKind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Tls(Box<TlsStream<Stream>>),
    Other(Box<dyn AnyStream>),
}

/// A stream of bytes for [`Stream::other`]. Implemented for every type that qualifies.
pub trait AnyStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> AnyStream for S {}

impl Stream {
    /// A stream that is not a socket, for example one in memory.
    #[must_use]
    pub fn other(stream: impl AnyStream + 'static) -> Self {
        Self(StreamKind::Other(Box::new(stream)))
    }

    /// Sends as many bytes as the socket accepts at once, and returns their number. The caller has
    /// to send the rest. An error counts as 0 bytes; the caller's next write reports it.
    ///
    /// For the first bytes on a new connection: the runtime does not know yet that the socket is
    /// writable, and would wait for that event.
    pub(super) fn send_at_once(&self, bytes: &[u8]) -> usize {
        match &self.0 {
            StreamKind::Tcp(stream) => SockRef::from(stream).send(bytes).unwrap_or(0),
            #[cfg(unix)]
            StreamKind::Unix(_) => 0,
            StreamKind::Tls(_) | StreamKind::Other(_) => 0,
        }
    }

    /// The TCP socket below all layers, if the stream uses one.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            StreamKind::Tcp(stream) => Some(stream),
            StreamKind::Tls(stream) => stream.get_ref().0.tcp(),
            #[cfg(unix)]
            StreamKind::Unix(_) => None,
            StreamKind::Other(_) => None,
        }
    }
}

/// Creates the streams of [`Connector::Other`].
pub type MakeStream = dyn Fn(&Exporter) -> io::Result<Stream> + Send + Sync;

/// How exporters are reached.
#[derive(Clone, Default)]
pub enum Connector {
    /// By their target: over TCP or a Unix socket.
    #[default]
    Network,
    /// By streams that a function creates, so that a scrape needs no socket: in benchmarks, count
    /// gates and fuzz targets. TLS and everything above it is the same as with the network.
    Other(Arc<MakeStream>),
}

impl Connector {
    /// Connects to exporters with `make`. Its errors count as failed connections.
    #[must_use]
    pub fn other(make: impl Fn(&Exporter) -> io::Result<Stream> + Send + Sync + 'static) -> Self {
        Self::Other(Arc::new(make))
    }

    /// Connects to the exporter, with TLS if the exporter uses it, within `connect-timeout` and
    /// before `deadline`. The clock of `connect-timeout` starts with this call and includes the
    /// name lookup and the TLS handshake. Dropping the future abandons the attempt.
    ///
    /// # Errors
    ///
    /// The error of the name lookup, the connection or the handshake, or
    /// [`UpstreamError::ConnectTimeout`].
    pub async fn connect(
        &self,
        exporter: &Exporter,
        deadline: Deadline,
    ) -> Result<Stream, UpstreamError> {
        let begun = Instant::now();
        let until = Deadline::after(begun, exporter.rules.connect_timeout).min(deadline);
        let in_line = InLine::default();
        timeout_at(until.instant(), self.establish(exporter, &in_line))
            .await
            .map_err(|_| too_late(&in_line, until.instant() - begun))?
    }

    async fn establish(
        &self,
        exporter: &Exporter,
        in_line: &InLine,
    ) -> Result<Stream, UpstreamError> {
        let plain = match self {
            Self::Network => network(&exporter.target, in_line).await?,
            Self::Other(make) => make(exporter).map_err(connect_error)?,
        };
        let Some(tls) = &exporter.tls else {
            return Ok(plain);
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        // Boxed, because the state of a handshake has 4 KiB, and every plain scrape would carry it
        // too.
        Box::pin(explained(connector.connect(tls.server_name.clone(), plain)))
            .await
            .map(|stream| Stream(StreamKind::Tls(Box::new(stream))))
            .map_err(UpstreamError::Tls)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Other(_) => "Other(…)",
        })
    }
}

/// The error of a connection that was not established in time. If lookups of other names use all
/// threads, the exporter is not to blame.
fn too_late(in_line: &InLine, after: Duration) -> UpstreamError {
    if in_line.is_waiting() {
        let cause =
            "too many name lookups in progress: the resolver does not answer for other names";
        return UpstreamError::NoResources(io::Error::other(cause));
    }
    UpstreamError::ConnectTimeout(after)
}

async fn network(target: &Target, in_line: &InLine) -> Result<Stream, UpstreamError> {
    let kind = match target {
        Target::Tcp { host, port } => {
            let addresses = addresses(host, port.get(), in_line).await?;
            // With a single address, `in_turn` and `race` do the same, and the check would cost a
            // socket.
            let connected = if addresses.len() == 1 || addresses.iter().any(is_of_this_host) {
                in_turn(&addresses).await
            } else {
                race(&addresses).await
            };
            let stream = connected.map_err(connect_error)?;
            // Without this option, small writes wait for the peer's delayed acknowledgement, 40 ms.
            stream.set_nodelay(true).map_err(UpstreamError::Unreachable)?;
            StreamKind::Tcp(stream)
        }
        #[cfg(unix)]
        Target::Unix(path) => StreamKind::Unix(unix(path).await.map_err(connect_error)?),
        #[cfg(not(unix))]
        Target::Unix(_) => {
            return Err(UpstreamError::NoSocket(io::ErrorKind::Unsupported.into()));
        }
    };
    Ok(Stream(kind))
}

/// Connects to a Unix socket. If its backlog is full, connect(2) fails with `EAGAIN`, and no event
/// reports when there is room again.
#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    loop {
        match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_BACKLOG).await,
            outcome => return outcome,
        }
    }
}

fn connect_error(error: io::Error) -> UpstreamError {
    let kind = error.kind();
    if lacks_resources(&error) {
        UpstreamError::NoResources(error)
    } else if kind == io::ErrorKind::ConnectionRefused {
        UpstreamError::Refused(error)
    } else if kind == io::ErrorKind::ConnectionReset {
        UpstreamError::Reset(error.into())
    } else if kind == io::ErrorKind::NotFound {
        UpstreamError::NoSocket(error)
    } else {
        UpstreamError::Unreachable(error)
    }
}

/// The cause of a failed name lookup. If the system's resolver has no file descriptor, it reports
/// that the name does not exist. Therefore this checks whether a descriptor is available.
fn lookup_error(error: io::Error) -> UpstreamError {
    let refused = error.get_ref().and_then(|cause| cause.downcast_ref());
    if let Some(BlockingError::NoThread { .. }) = refused {
        return UpstreamError::NoResources(error);
    }
    match nonblocking(Domain::IPV4) {
        Err(cause) if lacks_resources(&cause) => UpstreamError::NoResources(cause),
        Ok(_) | Err(_) => UpstreamError::NameLookup(error),
    }
}

/// The addresses to try, in order: first those of 127.0.0.0/8, where exporters usually listen, then
/// `::1`, then all others. `localhost` is not looked up (RFC 6761 §6.3): many hosts map it to only
/// one of the two loopback addresses, and exporters listen on either.
async fn addresses(
    host: &str,
    port: u16,
    in_line: &InLine,
) -> Result<Vec<SocketAddr>, UpstreamError> {
    if host.eq_ignore_ascii_case("localhost") {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|address| (address, port).into()).into());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    look_up_in_turn(host, port, in_line).await.map_err(lookup_error)
}

/// Whether a program on this host can listen on the address.
fn is_of_this_host(address: &SocketAddr) -> bool {
    let any_port = SocketAddr::new(address.ip(), 0);
    address.ip().is_loopback()
        || nonblocking(Domain::for_address(*address))
            .is_ok_and(|socket| socket.bind(&any_port.into()).is_ok())
}

/// Connects to the first address, and tries the next address only if one *refuses* the connection,
/// which means that no program listens there.
///
/// On a shared host, any user may listen on an address that the exporter does not use. A slow
/// exporter must not cause the scrape, with its credentials, to go to another program.
async fn in_turn(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refusal = None;
    for &address in addresses {
        match connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refusal = Some(error),
            // For example, the host has no IPv6. The refusal is the more helpful error.
            Err(error) => return Err(the_telling_one(refusal, error)),
            Ok(stream) => return Ok(stream),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Connects to the first address that answers. Tries the next address when one fails, or in
/// parallel when one takes longer than [`STAGGER`] (after RFC 8305).
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut untried = addresses.iter();
    let mut attempts: Vec<Attempt> = Vec::with_capacity(addresses.len());
    let mut failure = None;
    loop {
        match untried.next() {
            Some(&address) => attempts.push(Box::pin(connect(address))),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
            }
            None => {}
        }
        tokio::select! {
            biased;
            outcome = settled(&mut attempts) => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(the_telling_one(failure, error)),
            },
            () = sleep(STAGGER), if untried.len() > 0 => {}
        }
    }
}

/// Connects to one address.
///
/// A connection within this host is established when connect(2) returns. In this case nothing waits
/// for it, which saves the runtime a timer for `connect-timeout` and a wake-up.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = nonblocking(Domain::for_address(address))?;
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let is_there = socket.peer_addr().is_ok();
    let stream = TcpStream::from_std(socket.into())?;
    if !is_there {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

#[cfg(target_os = "linux")]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

#[cfg(not(target_os = "linux"))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// `EINPROGRESS` on Unix, `WSAEWOULDBLOCK` on Windows.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    let in_progress = error.kind() == io::ErrorKind::WouldBlock;
    in_progress
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The outcome of the first attempt that finishes. The attempt is removed.
async fn settled(attempts: &mut Vec<Attempt>) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for index in 0..attempts.len() {
            if let Poll::Ready(outcome) = attempts[index].as_mut().poll(cx) {
                drop(attempts.swap_remove(index));
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

/// Of two errors, the more helpful one. A refused connection says more than a missing address
/// family.
fn the_telling_one(one: Option<io::Error>, two: io::Error) -> io::Error {
    match one {
        Some(one) if one.kind() == io::ErrorKind::ConnectionRefused => one,
        Some(_) | None => two,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            StreamKind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            StreamKind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Other(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            StreamKind::Unix(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Tls(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            StreamKind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
