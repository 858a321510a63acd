//! A complete scrape without a socket: the interface that benchmarks, count gates and fuzz targets
//! use.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use scrapegate::{
    common::error::Abort,
    scrape::transform::{Out, Transform, TransformRules},
    upstream::{Connector, Stream},
};
use scrapegate_harness::{
    PATIENCE,
    in_memory::{self, Proxy},
    metrics::Samples,
    transform::{Doubling, Dropping},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex, join, sink},
    time::{Instant, sleep},
};

const REQUEST: &[u8] =
    b"GET /prometheus?exporter=n&a=b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// The bytes that a scraper gets over a pipe if exporters are reached through `connector`.
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

/// Reads the whole request, then answers with a body longer than all pipes together.
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
async fn a_connector_error_is_a_failed_connect() {
    let connector = Connector::other(|_| Err(io::ErrorKind::ConnectionRefused.into()));
    let answer = scraped(connector).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("refused"), "{answer}");
}

/// The first read returns the whole answer, the second is pending, the third is the end.
#[derive(Debug)]
struct CutShort(&'static [u8], bool);

impl AsyncRead for CutShort {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() && !self.1 {
            self.1 = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buf.put_slice(self.0);
        self.0 = &[];
        Poll::Ready(Ok(()))
    }
}

/// U12: the truncation is known before the head is sent.
#[tokio::test(start_paused = true)]
async fn an_exporter_that_closes_right_after_the_first_bytes_is_a_502_and_not_an_abort() {
    let connector = Connector::other(|_| {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na_metric 1\n";
        Ok(Stream::other(join(CutShort(cut, false), sink())))
    });
    let answer = scraped(connector).await;
    assert!(answer.starts_with("HTTP/1.1 502 exporter cut its answer short\r\n"), "{answer}");
}

/// The deadline of a scrape of `in_memory::exporter`, up to the largest error of the runtime's timer.
const DUE: std::ops::RangeInclusive<Duration> =
    PATIENCE..=PATIENCE.saturating_add(Duration::from_millis(2));

/// A connector whose exporter sends `answer` and then stalls.
fn silent_after(answer: &'static str) -> Connector {
    Connector::other(move |_| {
        let (proxy, mut exporter) = duplex(1000);
        tokio::spawn(async move {
            exporter.write_all(answer.as_bytes()).await.expect("an answer sent");
            // Stays open until the proxy closes it.
            let _ = exporter.read_to_end(&mut Vec::new()).await;
        });
        Ok(Stream::other(proxy))
    })
}

/// I8: the deadline before the head.
#[tokio::test(start_paused = true)]
async fn without_a_first_byte_it_is_504_at_the_deadline_to_the_millisecond() {
    for answer in ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"] {
        let begun = Instant::now();
        let response = scraped(silent_after(answer)).await;
        assert!(response.starts_with("HTTP/1.1 504 "), "{response}");
        assert!(DUE.contains(&begun.elapsed()), "{answer:?}: {:?}", begun.elapsed());
    }
}

/// I8: the deadline in the body.
#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_aborted_at_the_deadline_to_the_millisecond() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na 1\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\na 1\n",
    ] {
        let begun = Instant::now();
        let response = scraped(silent_after(answer)).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(!response.ends_with("0\r\n\r\n"), "{response}");
        assert!(DUE.contains(&begun.elapsed()), "{answer:?}: {:?}", begun.elapsed());
    }
}

/// I8: the deadline with a scraper that reads the head and nothing more.
#[tokio::test(start_paused = true)]
async fn a_scraper_that_does_not_read_is_disconnected_at_the_deadline_to_the_millisecond() {
    let connector = Connector::other(|_| {
        let (proxy, mut exporter) = duplex(1000);
        tokio::spawn(async move {
            let body = "a_metric 1\n".repeat(10_000);
            // Fails when the proxy closes the connection.
            let _ = exporter.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).await;
        });
        Ok(Stream::other(proxy))
    });
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::new(connector);
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(
        async {
            proxy.serve(stream).await;
            begun.elapsed()
        },
        async {
            scraper.write_all(REQUEST).await.expect("a request sent");
            scraper.read_exact(&mut [0; 100]).await.expect("the start of an answer");
        }
    );
    assert!(DUE.contains(&ended), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scrape_aborted_by_shutdown_is_counted_as_shutdown() {
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::new(silent_after("HTTP/1.1 200 OK\r\n\r\na_metric 1\n"));
    let in_flight = "scrapegate_scrapes_in_flight{exporter=\"n\"}";
    let scraping = async {
        scraper.write_all(REQUEST).await.expect("a request sent");
        scraper.read_u8().await.expect("a head");
        assert_eq!(Samples::parse(&proxy.page()).value(in_flight), 1.0);
        proxy.end();
    };
    tokio::join!(proxy.serve(stream), scraping);
    let samples = Samples::parse(&proxy.page());
    assert_eq!(samples.value(in_flight), 0.0);
    assert_eq!(samples.value("scrapegate_scrapes_total{exporter=\"n\",outcome=\"shutdown\"}"), 1.0);
    assert_eq!(samples.value("scrapegate_truncated_total{exporter=\"n\",cause=\"shutdown\"}"), 1.0);
    assert_eq!(samples.sum("scrapegate_scrapes_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_client_reads_byte_by_byte_is_aborted_at_the_stall_timeout() {
    let (stream, mut scraper) = duplex(10);
    let proxy = Proxy::new(Connector::other(|_| Err(io::ErrorKind::ConnectionRefused.into())));
    let begun = Instant::now();
    let serving = async {
        proxy.serve(stream).await;
        begun.elapsed()
    };
    let dripping = async {
        scraper.write_all(REQUEST).await.expect("a request sent");
        let mut answer = Vec::new();
        while scraper.read_buf(&mut (&mut answer).limit(1)).await.expect("bytes, or the end") > 0 {
            // The pace of a slow scraper, in virtual time.
            sleep(Duration::from_secs(1)).await;
        }
        answer
    };
    let (served, answer) = tokio::join!(serving, dripping);
    assert!(DUE.contains(&served), "{served:?}");
    assert!(
        answer.starts_with(b"HTTP/1.1 502 ") && !answer.ends_with(b"\n"),
        "the refusal was read to its end"
    );
}

/// T36
#[tokio::test(start_paused = true)]
async fn a_request_is_refused_if_its_client_loses_access_while_its_head_arrives() {
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::new(Connector::other(|_| panic!("an exporter was asked")));
    let connection_state = in_memory::connection_state();
    let serving = proxy.serve_as(stream, Arc::clone(&connection_state));
    let asking = async {
        let (half, rest) = REQUEST.split_at(20);
        scraper.write_all(half).await.expect("half a head sent");
        // The clock is paused, so this returns only after the proxy has read the half and is idle.
        sleep(Duration::from_millis(1)).await;
        connection_state.dismiss();
        scraper.write_all(rest).await.expect("the rest sent");
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let ((), answer) = tokio::join!(serving, asking);
    assert!(answer.starts_with("HTTP/1.1 403 client is no longer let in\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

/// A transform that must not run.
#[derive(Debug)]
struct Forbidden;

impl Transform for Forbidden {
    fn push(&mut self, data: Bytes, _: &mut Out) -> Result<(), Abort> {
        panic!("got {} bytes", data.len())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        panic!("flushed")
    }

    fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
        panic!("finished")
    }
}

/// The answer to `request` of an exporter that announces four bytes and an `ETag`, and sends
/// `body`.
async fn transformed(request: &str, body: &'static str, transforms: TransformRules) -> String {
    let connector = Connector::other(move |_| {
        let (proxy, mut exporter) = duplex(1000);
        tokio::spawn(async move {
            let head = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 4\r\n\r\n";
            exporter.write_all(format!("{head}{body}").as_bytes()).await.expect("an answer sent");
            // Stays open until the proxy closes it.
            let _ = exporter.read_to_end(&mut Vec::new()).await;
        });
        Ok(Stream::other(proxy))
    });
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::transforming([in_memory::exporter()], connector, transforms);
    let scraping = async {
        scraper.write_all(request.as_bytes()).await.expect("a request sent");
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).await.expect("an answer");
        answer.to_ascii_lowercase()
    };
    tokio::join!(proxy.serve(stream), scraping).1
}

#[tokio::test(start_paused = true)]
async fn a_head_request_runs_no_transform_and_announces_no_length_that_one_would_change() {
    let request = String::from_utf8_lossy(REQUEST).replacen("GET", "HEAD", 1);
    let unchanged = transformed(&request, "", TransformRules::default()).await;
    assert!(unchanged.starts_with("http/1.1 200 ok\r\n"), "{unchanged}");
    assert!(unchanged.contains("\r\ncontent-length: 4\r\n"), "{unchanged}");
    assert!(unchanged.contains("\r\netag: \"e\"\r\n"), "{unchanged}");

    let rules = TransformRules::new(|_| vec![Box::new(Forbidden)]);
    let changed = transformed(&request, "", rules).await;
    assert!(changed.starts_with("http/1.1 200 ok\r\n"), "{changed}");
    assert!(!changed.contains("content-length"), "{changed}");
    assert!(!changed.contains("etag"), "{changed}");
    assert!(changed.ends_with("\r\n\r\n"), "{changed}");
}

#[tokio::test(start_paused = true)]
async fn the_transformed_body_has_no_announced_length() {
    let request = String::from_utf8_lossy(REQUEST);
    let rules = TransformRules::new(|_| vec![Box::new(Doubling), Box::<Dropping>::default()]);
    let answer = transformed(&request, "a 1\n", rules).await;
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(!answer.contains("etag"), "{answer}");
    assert!(answer.ends_with("\r\n8\r\naa  11\n\n\r\n0\r\n\r\n"), "{answer}");
}
