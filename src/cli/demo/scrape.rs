//! The demo's client: one scrape over mutual TLS, counted and thrown away.

use std::{
    io::{self, BufRead as _},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1,
    ext::ReasonPhrase,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a complete scrape was like.
#[derive(Debug)]
pub(super) struct Figures {
    /// Bytes of the body.
    pub(super) bytes: u64,
    /// Lines of the body that are neither empty nor a comment.
    pub(super) samples: u64,
    /// From before the TCP connect to the first byte of the body.
    pub(super) first_byte: Duration,
    /// From before the TCP connect to the end of the body.
    pub(super) total: Duration,
    /// Such as `TLS 1.3`.
    pub(super) tls_version: String,
    /// As IANA calls it, such as `TLS_AES_256_GCM_SHA384`.
    pub(super) cipher_suite: String,
}

/// Why a scrape is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("the TLS handshake with {address} failed")]
    Handshake { address: SocketAddr, source: io::Error },
    #[error("`{0}` is no path to ask for")]
    Path(String, #[source] hyper::http::Error),
    #[error("no answer")]
    NoAnswer(#[source] hyper::Error),
    #[error("the answer is {0}")]
    Status(String),
    #[error("the answer broke off after {bytes} bytes")]
    Incomplete { bytes: u64, source: hyper::Error },
}

/// Scrapes once, on a connection of its own.
///
/// # Errors
/// Unless the status is 200 and the body ends as its framing says.
pub(super) async fn scrape(
    address: SocketAddr,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    path_and_query: &str,
) -> Result<Figures, Error> {
    let start = Instant::now();
    let request = Request::get(path_and_query)
        .header(HOST, address.to_string())
        .header(USER_AGENT, concat!("scrapegate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "text/plain;version=0.0.4")
        .body(Empty::<Bytes>::new())
        .map_err(|refused| Error::Path(path_and_query.to_owned(), refused))?;
    let stream = TcpStream::connect(address)
        .await
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|source| Error::Connect { address, source })?;
    let stream = TlsConnector::from(tls)
        .connect(server_name, stream)
        .await
        .map_err(|source| Error::Handshake { address, source })?;
    let (tls_version, cipher_suite) = negotiated(stream.get_ref().1);
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(Error::NoAnswer)?;
    let exchange = async {
        let response = sender.send_request(request).await;
        // Without a sender the connection ends after this exchange.
        drop(sender);
        read(response.map_err(Error::NoAnswer)?, start).await
    };
    // What is wrong with the connection is wrong with the exchange, and says so there.
    let (read, _) = tokio::join!(exchange, connection);
    let read = read?;
    Ok(Figures {
        bytes: read.bytes,
        samples: read.lines.samples,
        first_byte: read.first_byte.unwrap_or(read.total),
        total: read.total,
        tls_version,
        cipher_suite,
    })
}

#[derive(Default)]
struct Read {
    bytes: u64,
    lines: LineCounter,
    first_byte: Option<Duration>,
    total: Duration,
}

async fn read(response: Response<Incoming>, start: Instant) -> Result<Read, Error> {
    if response.status() != StatusCode::OK {
        return Err(Error::Status(status_line(&response)));
    }
    let mut body = response.into_body();
    let mut read = Read::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Incomplete { bytes: read.bytes, source })?;
        if let Some(data) = frame.data_ref() {
            read.first_byte.get_or_insert_with(|| start.elapsed());
            read.bytes += data.len() as u64;
            read.lines.count(data);
        }
    }
    read.total = start.elapsed();
    Ok(read)
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
fn negotiated(connection: &ClientConnection) -> (String, String) {
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str())
        .map_or_else(|| "TLS".to_owned(), |name| name.replace("TLSv", "TLS ").replace('_', "."));
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .map_or_else(|| "unknown".to_owned(), |name| name.replace("TLS13_", "TLS_"));
    (version, suite)
}

/// Counts samples in a text that comes in pieces.
#[derive(Debug, Default)]
struct LineCounter {
    samples: u64,
    /// Whether the last piece ended inside a line.
    inside: bool,
}

impl LineCounter {
    fn count(&mut self, mut piece: &[u8]) {
        while let Some(&first) = piece.first() {
            if !self.inside && !matches!(first, b'#' | b'\n') {
                self.samples += 1;
            }
            let (line, rest) = piece.split_at(line_length(piece));
            self.inside = !line.ends_with(b"\n");
            piece = rest;
        }
    }
}

/// Up to and with the first newline, or all of it.
fn line_length(mut text: &[u8]) -> usize {
    // The standard library's way to its fast search for a byte. Reading from memory cannot fail.
    let all = text.len();
    text.skip_until(b'\n').unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
        net::TcpListener,
        task::JoinSet,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        cli::demo::exporter::SyntheticExporter,
        pki::{Authority, Validity},
    };

    /// A TLS server's and a client's configuration that trust each other.
    fn tls() -> (TlsAcceptor, Arc<ClientConfig>) {
        let authority = Authority::generate("CA", Validity::OneDay).expect("a CA");
        let server = authority.server_pair(&["127.0.0.1".to_owned()]).expect("a pair");
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![server.certificate()], server.key())
            .expect("a matching pair");
        let mut roots = RootCertStore::empty();
        roots.add(authority.pair().certificate()).expect("a trust anchor");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (TlsAcceptor::from(Arc::new(config)), Arc::new(client))
    }

    async fn scrape_from(
        listener: &TcpListener,
        client: Arc<ClientConfig>,
        path: &str,
    ) -> Result<Figures, Error> {
        let address = listener.local_addr().expect("an address");
        let name = ServerName::IpAddress(address.ip().into());
        scrape(address, name, client, path).await
    }

    /// Scrapes a synthetic exporter through a TLS tunnel.
    async fn scrape_exporter(series: u64, path: &str) -> Result<Figures, Error> {
        let exporter = SyntheticExporter::bind(series).await.expect("bound");
        let address = exporter.address();
        let mut background = JoinSet::new();
        background.spawn(exporter.serve());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (server, client) = tls();
        let tunnel = async {
            let (near, _) = listener.accept().await.expect("accepted");
            let mut near = server.accept(near).await.expect("a handshake");
            let mut far = TcpStream::connect(address).await.expect("connected");
            let _ = copy_bidirectional(&mut near, &mut far).await;
        };
        tokio::join!(scrape_from(&listener, client, path), tunnel).0
    }

    #[tokio::test]
    async fn a_complete_scrape_has_its_figures() {
        for series in [0, 1000] {
            let figures = scrape_exporter(series, "/metrics").await.expect("complete");
            assert_eq!(figures.samples, series);
            assert!(figures.bytes > series * 30, "{figures:?}");
            assert!(figures.first_byte <= figures.total, "{figures:?}");
            assert_eq!(figures.tls_version, "TLS 1.3");
            assert!(figures.cipher_suite.starts_with("TLS_AES_"), "{figures:?}");
        }
    }

    #[tokio::test]
    async fn another_status_is_an_error() {
        let refused = scrape_exporter(1, "/else").await.expect_err("not found");
        assert_eq!(refused.to_string(), "the answer is 404 Not Found");
    }

    /// Scrapes a server that sends `answer`, cut off with its connection.
    async fn scrape_raw(answer: &'static [u8]) -> Result<Figures, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (server, client) = tls();
        let cut_off = async {
            let (stream, _) = listener.accept().await.expect("accepted");
            let mut stream = server.accept(stream).await.expect("a handshake");
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.expect("a request") > 0);
            stream.write_all(answer).await.expect("sent");
            stream.flush().await.expect("sent");
        };
        tokio::join!(scrape_from(&listener, client, "/metrics"), cut_off).0
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        for answer in [
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1\n".as_slice(),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n",
            // Ends with the connection, but TLS was not closed.
            b"HTTP/1.1 200 OK\r\n\r\na 1\n",
        ] {
            let broken = scrape_raw(answer).await.expect_err("not complete");
            assert_eq!(broken.to_string(), "the answer broke off after 4 bytes");
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_refusal_is_told() {
        let answer = b"HTTP/1.1 502 exporter refused the connection\r\ncontent-length: 0\r\n\r\n";
        let refused = scrape_raw(answer).await.expect_err("refused");
        assert_eq!(refused.to_string(), "the answer is 502 exporter refused the connection");
    }

    const TEXT: &[u8] =
        b"# HELP a A.\n# TYPE a counter\na{b=\"#\"} 1\n\na 2\n#\nlong 3 4\n\nlast 5";

    fn count<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let mut lines = LineCounter::default();
        for piece in pieces {
            lines.count(piece);
        }
        lines.samples
    }

    #[test]
    fn comments_and_empty_lines_are_no_samples() {
        assert_eq!(count([TEXT]), 4);
        assert_eq!(count([b"".as_slice()]), 0);
        assert_eq!(count([b"\n\n# only this".as_slice()]), 0);
        assert_eq!(count([b"a 1\n".as_slice()]), 1);
    }

    #[test]
    fn the_count_does_not_depend_on_where_the_text_is_cut() {
        for first in 0..=TEXT.len() {
            for second in first..=TEXT.len() {
                let pieces = [&TEXT[..first], &TEXT[first..second], &TEXT[second..]];
                assert_eq!(count(pieces), 4, "cut at {first} and {second}");
            }
        }
        assert_eq!(count(TEXT.chunks(1)), 4);
    }
}
