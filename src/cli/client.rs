//! The HTTP client of `demo` and `get`: one scrape through a running proxy, piece by piece.
//!
//! `probe` does not use this client. It uses the proxy's own client for exporters. This client is
//! hyper, an independent judge of whether an answer is complete.

mod answerer;

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1,
    ext::ReasonPhrase,
    header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConnection;
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::TlsConnector;

pub(super) use self::answerer::Answerer;
use crate::{
    common::{
        deadline::SCRAPE_TIMEOUT_HEADER, error::certificate::explained, exporter::UpstreamTls,
    },
    upstream::{AnyStream, look_up},
};

/// How much earlier than this client the proxy must give up, so that its error answer still
/// arrives. At most a tenth of the remaining time.
const HEAD_START: Duration = Duration::from_millis(500);

/// How much earlier than the timeout in the request the proxy may give up: its default
/// `scrape-timeout-offset` of 0.25 s, plus some time for the network.
const OFFSET: Duration = Duration::from_millis(350);

/// What to request, and from which server.
#[derive(Debug)]
pub(super) struct ClientRequest {
    /// Host name or IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` for plain HTTP.
    pub(super) tls: Option<UpstreamTls>,
    pub(super) path_and_query: String,
    /// Credentials for the proxy's `auth`.
    pub(super) authorization: Option<HeaderValue>,
    /// Time limit from before the name resolution to the last byte.
    pub(super) limit: Option<Duration>,
}

/// Why a scrape is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot resolve the host name `{host}`")]
    Lookup { host: String, source: io::Error },
    #[error("cannot connect to {to}")]
    Connect { to: String, source: io::Error },
    #[error("the TLS handshake with {to} failed")]
    Handshake { to: String, source: io::Error },
    #[error("`{0}` is not a valid URL path")]
    Path(String, #[source] hyper::http::Error),
    #[error("no answer")]
    NoAnswer { is_encrypted: bool, source: hyper::Error },
    #[error("{by} {line}")]
    Status { status: StatusCode, line: String, by: Answerer },
    #[error("the answer was cut off after {bytes} bytes")]
    Incomplete { bytes: u64, is_late: bool, source: hyper::Error },
    #[error("{phase} within {} s", limit.as_secs_f64())]
    Late { phase: Phase, limit: Duration },
}

/// What did not finish in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Lookup { host: String },
    Connect { to: String },
    Handshake { to: String },
    Head,
    Body { bytes: u64 },
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { host } => write!(f, "the host name `{host}` was not resolved"),
            Self::Connect { to } => write!(f, "no connection to {to}"),
            Self::Handshake { to } => write!(f, "no TLS handshake with {to}"),
            Self::Head => f.write_str("no answer"),
            Self::Body { bytes } => write!(f, "only {bytes} bytes of the answer arrived"),
        }
    }
}

/// What the handshake of a TLS connection negotiated.
#[derive(Clone, Debug)]
pub(super) struct Encryption {
    /// For example `TLS 1.3`.
    pub(super) version: String,
    /// The IANA name, for example `TLS_AES_256_GCM_SHA384`.
    pub(super) cipher_suite: String,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.version, self.cipher_suite)
    }
}

/// Size and times of a complete answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Bytes in the body.
    pub(super) bytes: u64,
    /// From before the TCP connect to the first byte of the body, or to the end of an empty body.
    pub(super) first_byte: Duration,
    /// From before the TCP connect to the end of the body.
    pub(super) total: Duration,
}

/// An answer with status 200, whose body is being read. Dropping it closes the connection.
pub(super) struct Answer {
    /// `None` for plain HTTP.
    pub(super) encryption: Option<Encryption>,
    body: Incoming,
    /// `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    begun: Instant,
    bytes: u64,
    first_byte: Option<Duration>,
    limit: Option<Duration>,
    /// From this time on, the proxy may have given up because its deadline passed.
    proxy_limit: Option<Instant>,
}

impl ClientRequest {
    /// `HOST:PORT`, with IPv6 in brackets.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Sends the request on a new connection and waits for the head.
    ///
    /// # Errors
    /// If there is no answer, or if its status is not 200.
    pub(super) async fn send(&self) -> Result<Answer, Error> {
        let begun = Instant::now();
        let to = self.authority();
        let (stream, encryption) = self.connect(begun, to.clone()).await?;
        let (request, proxy_limit) = self.http_request(begun, &to)?;
        let no_answer = |source| Error::NoAnswer { is_encrypted: encryption.is_some(), source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        let mut connection = Some(Box::pin(connection) as Pin<Box<_>>);
        let response = {
            let mut response = std::pin::pin!(sender.send_request(request));
            let response = poll_fn(|cx| {
                drive(&mut connection, cx);
                response.as_mut().poll(cx)
            });
            self.within(begun, response, || Phase::Head).await?.map_err(no_answer)?
        };
        // Without a sender, hyper closes the connection after this exchange.
        drop(sender);
        if response.status() != StatusCode::OK {
            let (by, line) = (Answerer::of(&response), status_line(&response));
            return Err(Error::Status { status: response.status(), line, by });
        }
        Ok(Answer {
            encryption,
            body: response.into_body(),
            connection,
            begun,
            bytes: 0,
            first_byte: None,
            limit: self.limit,
            proxy_limit,
        })
    }

    /// The request, and the time from which on the proxy may give up.
    fn http_request(
        &self,
        begun: Instant,
        to: &str,
    ) -> Result<(Request<Empty<Bytes>>, Option<Instant>), Error> {
        let mut request = Request::get(&self.path_and_query)
            .header(HOST, to)
            .header(USER_AGENT, concat!("scrapegate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "text/plain;version=0.0.4");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut proxy_limit = None;
        if let Some(limit) = self.limit {
            let left = limit.saturating_sub(begun.elapsed());
            let left = left - HEAD_START.min(left / 10);
            request = request.header(SCRAPE_TIMEOUT_HEADER, left.as_secs_f64().to_string());
            proxy_limit = Instant::now().checked_add(left.saturating_sub(OFFSET));
        }
        let request = request
            .body(Empty::new())
            .map_err(|refused| Error::Path(self.path_and_query.clone(), refused))?;
        Ok((request, proxy_limit))
    }

    async fn within<T>(
        &self,
        begun: Instant,
        work: impl Future<Output = T>,
        phase: impl FnOnce() -> Phase,
    ) -> Result<T, Error> {
        within(self.limit, begun, work, phase).await
    }

    async fn connect(
        &self,
        begun: Instant,
        to: String,
    ) -> Result<(Box<dyn AnyStream>, Option<Encryption>), Error> {
        let host = self.host.clone();
        let lookup = look_up(&self.host, self.port);
        let addresses = self
            .within(begun, lookup, || Phase::Lookup { host: host.clone() })
            .await?
            .map_err(|source| Error::Lookup { host: host.clone(), source })?;
        let connect = async {
            let stream = TcpStream::connect(&*addresses).await?;
            stream.set_nodelay(true).map(|()| stream)
        };
        let stream = self
            .within(begun, connect, || Phase::Connect { to: to.clone() })
            .await?
            .map_err(|source| Error::Connect { to: to.clone(), source })?;
        let Some(UpstreamTls { config, server_name }) = &self.tls else {
            return Ok((Box::new(stream), None));
        };
        let connector = TlsConnector::from(config.clone());
        let handshake = explained(connector.connect(server_name.clone(), stream));
        let stream = self
            .within(begun, handshake, || Phase::Handshake { to: to.clone() })
            .await?
            .map_err(|source| Error::Handshake { to, source })?;
        let encryption = negotiated(stream.get_ref().1);
        Ok((Box::new(stream), Some(encryption)))
    }
}

/// Runs `work` until `limit` after `begun` at most.
async fn within<T>(
    limit: Option<Duration>,
    begun: Instant,
    work: impl Future<Output = T>,
    phase: impl FnOnce() -> Phase,
) -> Result<T, Error> {
    let deadline = limit.and_then(|limit| begun.checked_add(limit));
    match (deadline, limit) {
        (Some(deadline), Some(limit)) => timeout_at(deadline.into(), work)
            .await
            .map_err(|_| Error::Late { phase: phase(), limit }),
        (None, _) | (_, None) => Ok(work.await),
    }
}

impl Answer {
    /// Length of the body, if the head has it.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes of the body, or `None` at the end of a complete body.
    ///
    /// # Errors
    /// If the body ends before its framing is complete, or if the time limit passes.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let (connection, body) = (&mut self.connection, &mut self.body);
            let frame = poll_fn(|cx| {
                drive(connection, cx);
                Pin::new(&mut *body).poll_frame(cx)
            });
            let bytes = self.bytes;
            let frame = within(self.limit, self.begun, frame, || Phase::Body { bytes }).await?;
            let Some(frame) = frame else { return Ok(None) };
            let is_late = self.proxy_limit.is_some_and(|limit| limit <= Instant::now());
            let frame = frame.map_err(|source| Error::Incomplete { bytes, is_late, source })?;
            // Ignore trailers.
            let Ok(data) = frame.into_data() else { continue };
            self.first_byte.get_or_insert_with(|| self.begun.elapsed());
            self.bytes += data.len() as u64;
            return Ok(Some(data));
        }
    }

    /// Size and times up to now.
    pub(super) fn figures(&self) -> Figures {
        let total = self.begun.elapsed();
        Figures { bytes: self.bytes, first_byte: self.first_byte.unwrap_or(total), total }
    }
}

/// Polls the connection while the caller waits for its exchange. An error of the connection also
/// reaches the exchange, which reports it.
fn drive<F: Future + ?Sized>(connection: &mut Option<Pin<Box<F>>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

/// The status code and the reason phrase of the answer. The proxy's reason phrase names the cause.
fn status_line(response: &Response<Incoming>) -> String {
    let status = response.status();
    match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => {
            let reason = String::from_utf8_lossy(reason.as_bytes());
            format!("{} {}", status.as_str(), reason.escape_debug())
        }
        None => status.to_string(),
    }
}

/// The common names of version and cipher suite, instead of those of rustls.
fn negotiated(connection: &ClientConnection) -> Encryption {
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str())
        .map_or_else(|| "TLS".to_owned(), |name| name.replace("TLSv", "TLS ").replace('_', "."));
    let cipher_suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .map_or_else(|| "unknown".to_owned(), |name| name.replace("TLS13_", "TLS_"));
    Encryption { version, cipher_suite }
}

#[cfg(test)]
pub(super) mod tests;
