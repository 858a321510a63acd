//! The readers: our own, and hyper's client connection behind the same trait.

use std::{
    error::Error,
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    num::NonZeroU16,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Version,
    body::{Body as _, Incoming},
    client::conn::http1::{Builder, Connection, SendRequest},
    header::TRANSFER_ENCODING,
    http::request::Parts,
};
use hyper_util::rt::TokioIo;
use scrapegate::{
    common::{
        deadline::Deadline,
        error::Abort,
        exporter::{Exporter, Target},
    },
    scrape::source::Source,
    upstream::{
        self, Connector, ExporterRequest, READ_SIZE, ReadCoalescing, Replaced, Stream, UpstreamBody,
    },
};
use scrapegate_harness::in_memory;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// Limit for the response head in bytes, as in our own reader.
const MAX_HEAD: usize = 16 * 1024;

/// What reads the exporter's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// `src/upstream`.
    Own,
    /// hyper's client connection, with read buffers of this number of bytes.
    Hyper(usize),
}

impl Reader {
    /// The readers that are compared. Our own reader begins with [`READ_SIZE`] and follows the
    /// scraper's socket from there. hyper has one size for a whole connection.
    pub(crate) const ALL: [Self; 3] =
        [Self::Own, Self::Hyper(READ_SIZE), Self::Hyper(4 * READ_SIZE)];

    /// The title of its column.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Own => "own".to_owned(),
            Self::Hyper(size) => format!("hyper, reads of {} KiB", size / 1024),
        }
    }
}

/// Why there is no body, or no more of it.
pub(crate) type Refused = Box<dyn Error + Send + Sync>;

/// How hyper parses response heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parser {
    /// As without any option.
    Default,
    /// With all options that accept malformed field lines.
    Lenient,
}

/// The exporter at this address.
pub(crate) fn exporter(address: SocketAddr) -> Exporter {
    let mut exporter = in_memory::exporter();
    let port = NonZeroU16::new(address.port()).expect("a bound port");
    exporter.target = Target::Tcp { host: address.ip().to_string(), port };
    exporter
}

fn deadline() -> Deadline {
    Deadline::after(Instant::now(), in_memory::exporter().rules.timeout)
}

fn scraper() -> Parts {
    Request::new(()).into_parts().0
}

/// Our own reader on a stream in memory.
pub(crate) async fn own(stream: Stream) -> Result<UpstreamBody, Refused> {
    let (exporter, scraper) = (in_memory::exporter(), scraper());
    let request = ExporterRequest {
        exporter: &exporter,
        scraper: &scraper,
        forwarded: "",
        replaced: &Replaced::default(),
    };
    let (_, body) = upstream::exchange(stream, request, deadline()).await?;
    Ok(body)
}

/// Our own reader on a socket.
pub(crate) async fn own_over_tcp(address: SocketAddr) -> Result<UpstreamBody, Refused> {
    let stream = Connector::Network.connect(&exporter(address), deadline()).await?;
    own(stream).await
}

/// hyper's client on a socket, which gathers what a fast exporter writes, as ours does.
pub(crate) async fn hyper_over_tcp(
    address: SocketAddr,
    read_size: usize,
) -> Result<HyperBody<Gathering>, Refused> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let stream = Gathering { socket, coalescing: ReadCoalescing::default() };
    hyper(stream, read_size, Parser::Default).await
}

/// hyper's client on a stream.
pub(crate) async fn hyper<S>(
    stream: S,
    read_size: usize,
    parser: Parser,
) -> Result<HyperBody<S>, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lenient = parser == Parser::Lenient;
    let (mut sender, mut connection) = Builder::new()
        .max_header_size(MAX_HEAD)
        .read_buf_exact_size(Some(read_size))
        .allow_spaces_after_header_name_in_responses(lenient)
        .allow_obsolete_multiline_headers_in_responses(lenient)
        .ignore_invalid_headers_in_responses(lenient)
        .handshake(TokioIo::new(stream))
        .await?;
    let request = Request::get("/metrics")
        .header("Host", "localhost")
        .header("Connection", "close")
        .body(Empty::new())?;
    let mut answer = Box::pin(sender.send_request(request));
    let mut has_ended = false;
    let answer = poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        // The answer has the error of the connection, if any.
        has_ended = has_ended || Pin::new(&mut connection).poll(cx).is_ready();
        answer.as_mut().poll(cx)
    })
    .await?;
    let (head, incoming) = answer.into_parts();
    // hyper reads a body with any other coding until the connection ends. With hyper as our
    // reader, the proxy would still check the head.
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() || head.version != Version::HTTP_11 {
            return Err("unsupported transfer coding".into());
        }
    }
    let connection = (!has_ended).then_some(connection);
    Ok(HyperBody { incoming, connection, failure: None, _sender: sender })
}

/// A body that hyper reads. The connection has no task of its own, because each chunk would then
/// cost two wake-ups.
#[derive(Debug)]
pub(crate) struct HyperBody<S: AsyncRead + AsyncWrite + Unpin> {
    incoming: Incoming,
    connection: Option<Connection<TokioIo<S>, Empty<Bytes>>>,
    /// The error with which the body ended.
    pub(crate) failure: Option<hyper::Error>,
    /// hyper ends the connection when its sender is dropped.
    _sender: SendRequest<Empty<Bytes>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HyperBody<S> {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    // Trailers are not relayed.
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => {
                    self.failure = Some(error);
                    return Poll::Ready(Some(Err(Abort::ExporterCutShort)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Source for HyperBody<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        if self.failure.is_some() {
            return Poll::Ready(Some(Err(Abort::ExporterCutShort)));
        }
        loop {
            if let Poll::Ready(next) = self.poll_incoming(cx) {
                return Poll::Ready(next);
            }
            // The connection puts one frame into the body, ends the body, or waits for the stream.
            let Some(connection) = &mut self.connection else {
                return Poll::Pending;
            };
            match Pin::new(connection).poll(cx) {
                // The body has the error, if any.
                Poll::Ready(_) => self.connection = None,
                Poll::Pending => return self.poll_incoming(cx),
            }
        }
    }

    fn is_end(&self) -> bool {
        self.failure.is_none() && self.incoming.is_end_stream()
    }

    /// hyper keeps its read buffer.
    fn release(&mut self) {}

    /// hyper does not change the size of its reads.
    fn read_up_to(&mut self, _: usize) {}
}

/// A socket with the receive low-water mark of our own reader.
#[derive(Debug)]
pub(crate) struct Gathering {
    socket: TcpStream,
    coalescing: ReadCoalescing,
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, coalescing } = &mut *self;
        let before = buf.filled().len();
        let outcome = Pin::new(&mut *socket).poll_read(cx, buf);
        if outcome.is_pending() {
            coalescing.empty(socket, cx);
        } else {
            coalescing.received(buf.filled().len() - before);
        }
        outcome
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
