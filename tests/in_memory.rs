//! A whole scrape without a socket: the seam that benchmarks, count gates and fuzz targets use.

mod support;

use std::io;

use scrapegate::upstream::{Connector, Stream};
use support::memory::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const REQUEST: &[u8] =
    b"GET /prometheus?exporter=n&a=b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// What a scraper gets over a pipe, when exporters are reached as `connector` does.
async fn scraped(connector: Connector) -> String {
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::new(connector);
    let scraping = async {
        scraper.write_all(REQUEST).await.expect("a request sent");
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    tokio::join!(proxy.serve(stream), scraping).1
}

/// Answers with a body longer than all pipes, once the whole request is there.
async fn answer(mut exporter: DuplexStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(exporter.read_u8().await.expect("a request"));
    }
    assert!(request.starts_with(b"GET /metrics?a=b HTTP/1.1\r\n"));
    let body = "a_metric 1\n".repeat(10_000);
    let message = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    exporter.write_all(message.as_bytes()).await.expect("an answer sent");
}

#[tokio::test(start_paused = true)]
async fn a_whole_scrape_runs_without_a_socket() {
    let connector = Connector::other(|_| {
        let (proxy, exporter) = duplex(1000);
        tokio::spawn(answer(exporter));
        Ok(Stream::other(proxy))
    });
    let answer = scraped(connector).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == "a_metric 1\n".repeat(10_000), "{} bytes", body.len());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_made_is_a_failed_connect() {
    let connector = Connector::other(|_| Err(io::ErrorKind::ConnectionRefused.into()));
    let answer = scraped(connector).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("refused"), "{answer}");
}
