use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider,
    pki_types::ServerName,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::pki::{Authority, Validity};

/// A TLS server, and the configuration of a client that trusts it.
pub(crate) fn tls() -> (TlsAcceptor, Arc<ClientConfig>) {
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

/// A request for `path` from the server at `address`.
pub(crate) fn request(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> ClientRequest {
    ClientRequest {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Some(UpstreamTls { config, server_name: ServerName::IpAddress(address.ip().into()) }),
        path_and_query: path.to_owned(),
        authorization: None,
        limit: None,
    }
}

/// Reads the answer of a server that sends these bytes and then drops the connection.
async fn answered(answer: &'static [u8]) -> Result<Figures, Error> {
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
    let request = request(listener.local_addr().expect("bound"), client, "/metrics");
    let read = async {
        let mut answer = request.send().await?;
        while answer.next().await?.is_some() {}
        Ok(answer.figures())
    };
    tokio::join!(read, cut_off).0
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error() {
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1\n".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n",
        // The body ends with the connection, but without a close_notify.
        b"HTTP/1.1 200 OK\r\n\r\na 1\n",
    ] {
        let broken = answered(answer).await.expect_err("not complete");
        assert_eq!(broken.to_string(), "the answer was cut off after 4 bytes");
    }
    let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na 1\n";
    assert_eq!(answered(whole).await.expect("complete").bytes, 4);
}

#[tokio::test]
async fn an_error_has_the_reason_phrase() {
    let answer = b"HTTP/1.1 502 exporter refused the connection\r\ncontent-length: 0\r\n\r\n";
    let refused = answered(answer).await.expect_err("refused");
    assert_eq!(refused.to_string(), "the proxy answered 502 exporter refused the connection");
}

#[tokio::test]
async fn f31_the_head_shows_who_chose_the_status() {
    for (answer, expected) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nserver: scrapegate\r\n",
            "the proxy answered 401 Unauthorized",
        ),
        // From scrapegate 0.1.
        (
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\n",
            "the proxy answered 401 Unauthorized",
        ),
        ("HTTP/1.1 401 Unauthorized\r\n", "the exporter answered 401 Unauthorized"),
        (
            "HTTP/1.1 500 Internal Server Error\r\n",
            "the exporter answered 500 Internal Server Error",
        ),
        ("HTTP/1.1 404 Not Found\r\nserver: nginx\r\n", "`nginx` answered 404 Not Found"),
    ] {
        let answer: &'static [u8] = format!("{answer}content-length: 0\r\n\r\n").leak().as_bytes();
        let refused = answered(answer).await.expect_err("refused");
        assert_eq!(refused.to_string(), expected);
    }
}
