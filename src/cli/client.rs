//! The client of a running proxy, for `demo` and `get`: one scrape, piece by piece.
//!
//! It is not that of `probe`, which is the proxy's own towards exporters: here is hyper, another's
//! word for what is a whole answer.

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
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConnection;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{error::certificate::explained, exporter::UpstreamTls, upstream::AnyStream};

/// Whom to ask, and for what.
#[derive(Debug)]
pub(super) struct Question {
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Without it in plain HTTP.
    pub(super) tls: Option<UpstreamTls>,
    pub(super) path_and_query: String,
}

/// Why a scrape is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot connect to {to}")]
    Connect { to: String, source: io::Error },
    #[error("the TLS handshake with {to} failed")]
    Handshake { to: String, source: io::Error },
    #[error("`{0}` is no path to ask for")]
    Path(String, #[source] hyper::http::Error),
    #[error("no answer")]
    NoAnswer(#[source] hyper::Error),
    #[error("the answer is {line}")]
    Status { status: StatusCode, line: String },
    #[error("the answer broke off after {bytes} bytes")]
    Incomplete { bytes: u64, source: hyper::Error },
}

/// What both sides of a TLS connection agreed on.
#[derive(Clone, Debug)]
pub(super) struct Encryption {
    /// Such as `TLS 1.3`.
    pub(super) version: String,
    /// As IANA calls it, such as `TLS_AES_256_GCM_SHA384`.
    pub(super) cipher_suite: String,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.version, self.cipher_suite)
    }
}

/// What a complete answer was like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Bytes of the body.
    pub(super) bytes: u64,
    /// From before the TCP connect to the first byte of the body; of an empty one, to its end.
    pub(super) first_byte: Duration,
    /// From before the TCP connect to the end of the body.
    pub(super) total: Duration,
}

/// An answer with status 200 on its way. Dropped, its connection ends.
pub(super) struct Answer {
    /// Absent for plain HTTP.
    pub(super) encryption: Option<Encryption>,
    body: Incoming,
    /// Absent when it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    begun: Instant,
    bytes: u64,
    first_byte: Option<Duration>,
}

impl Question {
    /// `HOST:PORT`, with IPv6 in brackets.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Asks on a connection of its own, and awaits the head.
    ///
    /// # Errors
    /// Unless the status is 200.
    pub(super) async fn ask(&self) -> Result<Answer, Error> {
        let begun = Instant::now();
        let to = self.authority();
        let request = Request::get(&self.path_and_query)
            .header(HOST, &to)
            .header(USER_AGENT, concat!("scrapegate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "text/plain;version=0.0.4")
            .body(Empty::<Bytes>::new())
            .map_err(|refused| Error::Path(self.path_and_query.clone(), refused))?;
        let (stream, encryption) = self.connect(to).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Error::NoAnswer)?;
        let mut connection = Some(Box::pin(connection) as Pin<Box<_>>);
        let response = {
            let mut response = std::pin::pin!(sender.send_request(request));
            poll_fn(|cx| {
                drive(&mut connection, cx);
                response.as_mut().poll(cx)
            })
            .await
            .map_err(Error::NoAnswer)?
        };
        // Without a sender the connection ends after this exchange.
        drop(sender);
        if response.status() != StatusCode::OK {
            return Err(Error::Status { status: response.status(), line: status_line(&response) });
        }
        let body = response.into_body();
        Ok(Answer { encryption, body, connection, begun, bytes: 0, first_byte: None })
    }

    async fn connect(&self, to: String) -> Result<(Box<dyn AnyStream>, Option<Encryption>), Error> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = match stream {
            Ok(stream) => stream,
            Err(source) => return Err(Error::Connect { to, source }),
        };
        let Some(UpstreamTls { config, server_name }) = &self.tls else {
            return Ok((Box::new(stream), None));
        };
        let connector = TlsConnector::from(config.clone());
        match explained(connector.connect(server_name.clone(), stream)).await {
            Ok(stream) => {
                let encryption = negotiated(stream.get_ref().1);
                Ok((Box::new(stream), Some(encryption)))
            }
            Err(source) => Err(Error::Handshake { to, source }),
        }
    }
}

impl Answer {
    /// The body's length, where the head says it.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes of the body; `None` after the last ones, when it is whole.
    ///
    /// # Errors
    /// When it does not end as its framing says.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = poll_fn(|cx| {
                drive(&mut self.connection, cx);
                Pin::new(&mut self.body).poll_frame(cx)
            });
            let Some(frame) = frame.await else { return Ok(None) };
            let frame = frame.map_err(|source| Error::Incomplete { bytes: self.bytes, source })?;
            // Trailers are of no interest.
            let Ok(data) = frame.into_data() else { continue };
            self.first_byte.get_or_insert_with(|| self.begun.elapsed());
            self.bytes += data.len() as u64;
            return Ok(Some(data));
        }
    }

    /// Up to now.
    pub(super) fn figures(&self) -> Figures {
        let total = self.begun.elapsed();
        Figures { bytes: self.bytes, first_byte: self.first_byte.unwrap_or(total), total }
    }
}

/// The connection does its work while the exchange is awaited. What is wrong with it is wrong with
/// the exchange, and says so there.
fn drive<F: Future + ?Sized>(connection: &mut Option<Pin<Box<F>>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

/// The status with the reason that was sent, which says the cause.
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

/// Names of the version and the cipher suite, as they are known outside of rustls.
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
