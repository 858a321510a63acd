//! TCP, Unix socket or TLS: a connection to an exporter within its `connect-timeout`.

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    deadline::Deadline,
    error::UpstreamError,
    exporter::{Exporter, Target},
};

/// How long the first address has before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);

/// Pause before a Unix socket with a full backlog is tried again.
#[cfg(unix)]
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// A connection to an exporter, in the three forms there are.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Tls(Box<TlsStream<Stream>>),
}

/// Connects, with TLS if the exporter wants it, within `connect-timeout` and before `deadline`.
pub(super) async fn connect(
    exporter: &Exporter,
    deadline: Deadline,
) -> Result<Stream, UpstreamError> {
    let begun = Instant::now();
    let until = Deadline::after(begun, exporter.rules.connect_timeout).min(deadline);
    timeout_at(until.instant(), establish(exporter))
        .await
        .map_err(|_| UpstreamError::ConnectTimeout(begun.elapsed()))?
}

async fn establish(exporter: &Exporter) -> Result<Stream, UpstreamError> {
    let plain = match &exporter.target {
        Target::Tcp { host, port } => {
            let addresses = addresses(host, port.get()).await.map_err(UpstreamError::NameLookup)?;
            let stream = race(&addresses).await.map_err(connect_error)?;
            // Without it small writes wait for the peer's delayed acknowledgement, 40 ms.
            stream.set_nodelay(true).map_err(UpstreamError::Unreachable)?;
            Stream::Tcp(stream)
        }
        #[cfg(unix)]
        Target::Unix(path) => Stream::Unix(unix(path).await.map_err(connect_error)?),
        #[cfg(not(unix))]
        Target::Unix(_) => {
            return Err(UpstreamError::NoSocket(io::ErrorKind::Unsupported.into()));
        }
    };
    let Some(tls) = &exporter.tls else {
        return Ok(plain);
    };
    TlsConnector::from(Arc::clone(&tls.config))
        .connect(tls.server_name.clone(), plain)
        .await
        .map(|stream| Stream::Tls(Box::new(stream)))
        .map_err(UpstreamError::Tls)
}

/// Connects to a Unix socket. A full backlog is `EAGAIN` there, and nothing tells when it is no
/// longer full.
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
    /// `ENFILE` and `EMFILE` on every Unix; std has no kinds for them.
    const NO_RESOURCES: [i32; 2] = [23, 24];
    let kind = error.kind();
    if error.raw_os_error().is_some_and(|code| cfg!(unix) && NO_RESOURCES.contains(&code))
        || kind == io::ErrorKind::OutOfMemory
    {
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

/// The addresses to try, in order. `localhost` is not looked up (RFC 6761 §6.3): many hosts map it
/// to one of the two loopback addresses only, and exporters listen on either.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let loopback: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        return Ok(loopback.map(|address| (address, port).into()).into());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// Connects to the first address that answers. The next one is tried when one failed, or beside
/// it when it takes longer than [`STAGGER`] (after RFC 8305).
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut untried = addresses.iter();
    let mut attempts: Vec<Attempt> = Vec::with_capacity(addresses.len());
    let mut failure = None;
    loop {
        match untried.next() {
            Some(&address) => attempts.push(Box::pin(TcpStream::connect(address))),
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

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The outcome of the first attempt that has one; it is taken out.
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

/// A refusal says more than an address family that the host does not have.
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
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
