//! In memory, with a paused clock: compressed bytes are not held back, and deadlines hold.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use scrapegate::{
    common::compression::{CompressFor, CompressionRules, ContentCoding},
    scrape::link::Link,
    upstream::{Connector, Stream},
};
use scrapegate_harness::{
    PATIENCE,
    decoder::{Decoded, chunks},
    in_memory::{self, Proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, sleep_until},
};

const CODINGS: [ContentCoding; 2] = [ContentCoding::Zstd, ContentCoding::Gzip];

/// The promise of the manual.
const PROMISE: Duration = Duration::from_millis(200);

/// The deadline of a scrape, up to the largest error of the runtime's timer.
const DUE: RangeInclusive<Duration> = PATIENCE..=PATIENCE.saturating_add(Duration::from_millis(2));

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A line of exposition in a chunk of its own.
fn line(number: usize) -> String {
    format!("a_metric_with_a_name{{number=\"{number:04}\"}} {number:08}\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A proxy that compresses for everyone, and reaches an exporter that `answers`.
fn proxy<F>(answers: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Proxy
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut exporter = in_memory::exporter();
    exporter.rules.compression =
        CompressionRules { compress_for: CompressFor::All, ..CompressionRules::default() };
    let connector = Connector::other(move |_| {
        let (proxy, exporter) = duplex(64 * 1024);
        tokio::spawn(answers(exporter));
        Ok(Stream::other(proxy))
    });
    Proxy::of([exporter], connector)
}

fn request(coding: ContentCoding) -> String {
    let name = coding.name();
    format!("GET /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {name}\r\n\r\n")
}

/// The body in what a scraper has read so far.
fn body(read: &[u8]) -> Vec<Vec<u8>> {
    let head = read.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let text = String::from_utf8_lossy(&read[..head]);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("content-encoding: "), "{text}");
    chunks(&read[head + 4..])
}

/// Reads until `time`.
async fn read_until(scraper: &mut DuplexStream, time: Instant, read: &mut Vec<u8>) {
    loop {
        tokio::select! {
            biased;
            () = sleep_until(time) => return,
            count = scraper.read_buf(read) => assert!(count.expect("bytes") > 0, "the end"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_pausing_exporter_has_sent_can_be_decoded_within_200_ms() {
    const LINES: usize = 5;
    const PAUSE: Duration = Duration::from_secs(1);
    for coding in CODINGS {
        let proxy = proxy(|mut exporter| async move {
            exporter.write_all(HEAD.as_bytes()).await.expect("sent");
            for number in 0..LINES {
                exporter.write_all(chunk(&line(number)).as_bytes()).await.expect("sent");
                sleep(PAUSE).await;
            }
            exporter.write_all(b"0\r\n\r\n").await.expect("sent");
        });
        let (stream, mut scraper) = duplex(64 * 1024);
        let scraping = async {
            let begun = Instant::now();
            scraper.write_all(request(coding).as_bytes()).await.expect("sent");
            let (mut read, mut expected) = (Vec::new(), String::new());
            for number in 0..LINES {
                let sent = begun + PAUSE * u32::try_from(number).expect("few");
                read_until(&mut scraper, sent + PROMISE, &mut read).await;
                expected += &line(number);
                let decoded = Decoded::of(coding, &body(&read).concat());
                assert_eq!(String::from_utf8_lossy(&decoded.bytes), expected, "{coding:?}");
                assert!(!decoded.is_clean, "{coding:?}");
            }
            let end = begun + PAUSE * u32::try_from(LINES).expect("few") + PROMISE;
            read_until(&mut scraper, end, &mut read).await;
            let decoded = Decoded::of(coding, &body(&read).concat());
            assert!(read.ends_with(b"\r\n0\r\n\r\n") && decoded.is_clean, "{coding:?}");
            assert_eq!(String::from_utf8_lossy(&decoded.bytes), expected, "{coding:?}");
            drop(scraper);
        };
        tokio::join!(proxy.serve(stream), scraping);
    }
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_pauses_often_is_not_flushed_at_each_pause() {
    const LINES: usize = 300;
    const PAUSE: Duration = Duration::from_millis(10);
    for coding in CODINGS {
        let proxy = proxy(|mut exporter| async move {
            exporter.write_all(HEAD.as_bytes()).await.expect("sent");
            for number in 0..LINES {
                exporter.write_all(chunk(&line(number)).as_bytes()).await.expect("sent");
                sleep(PAUSE).await;
            }
            exporter.write_all(b"0\r\n\r\n").await.expect("sent");
        });
        let (stream, mut scraper) = duplex(64 * 1024);
        let scraping = async {
            scraper.write_all(request(coding).as_bytes()).await.expect("sent");
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n0\r\n\r\n") {
                assert!(scraper.read_buf(&mut read).await.expect("bytes") > 0, "no end");
            }
            drop(scraper);
            read
        };
        let ((), read) = tokio::join!(proxy.serve(stream), scraping);
        let chunks = body(&read);
        // 3 s, and a flush for each 150 ms.
        assert!((15..=22).contains(&chunks.len()), "{coding:?}: {} flushes", chunks.len());
        let decoded = Decoded::of(coding, &chunks.concat());
        assert!(decoded.is_clean, "{coding:?}");
        assert_eq!(decoded.bytes, (0..LINES).map(line).collect::<String>().into_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_scrape_ends_at_the_deadline_if_the_exporter_stalls() {
    for coding in CODINGS {
        let proxy = proxy(|mut exporter| async move {
            let start = format!("{HEAD}{}", chunk(&line(0)));
            exporter.write_all(start.as_bytes()).await.expect("sent");
            // Stays open until the proxy closes it.
            let _ = exporter.read_to_end(&mut Vec::new()).await;
        });
        let (stream, mut scraper) = duplex(64 * 1024);
        let begun = Instant::now();
        let scraping = async {
            scraper.write_all(request(coding).as_bytes()).await.expect("sent");
            let mut read = Vec::new();
            scraper.read_to_end(&mut read).await.expect("the end");
            read
        };
        let ((), read) = tokio::join!(proxy.serve(stream), scraping);
        assert!(DUE.contains(&begun.elapsed()), "{coding:?}: {:?}", begun.elapsed());
        let decoded = Decoded::of(coding, &body(&read).concat());
        assert_eq!((decoded.bytes, decoded.is_clean), (line(0).into_bytes(), false), "{coding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_scrape_ends_at_the_deadline_if_the_scraper_does_not_read() {
    for coding in CODINGS {
        let proxy = proxy(|mut exporter| async move {
            let many: String = (0..10_000).map(line).collect();
            let _ = exporter.write_all(HEAD.as_bytes()).await;
            // Fails when the proxy closes the connection.
            while exporter.write_all(chunk(&many).as_bytes()).await.is_ok() {}
        });
        let (stream, mut scraper) = duplex(1000);
        let begun = Instant::now();
        let serving = async {
            proxy.serve(stream).await;
            begun.elapsed()
        };
        let scraping = async {
            scraper.write_all(request(coding).as_bytes()).await.expect("sent");
            scraper.read_exact(&mut [0; 100]).await.expect("the start of an answer");
        };
        let (ended, ()) = tokio::join!(serving, scraping);
        assert!(DUE.contains(&ended), "{coding:?}: {ended:?}");
    }
}

/// The head of the answer to a scraper at the other end of a link.
async fn head_over(link: Link, method: &str) -> String {
    let exporter = in_memory::exporter();
    let connector = Connector::other(move |_| {
        let (proxy, mut exporter) = duplex(64 * 1024);
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(exporter.read_u8().await.expect("a request"));
            }
            let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let body = if request.starts_with("head") { "" } else { "a 1\n" };
            let asked = if request.contains("accept-encoding: identity\r\n") { 1 } else { 2 };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\
                 Retry-After: {asked}\r\n\r\n{body}"
            );
            exporter.write_all(answer.as_bytes()).await.expect("sent");
        });
        Ok(Stream::other(proxy))
    });
    let proxy = Proxy::of([exporter], connector);
    let state = in_memory::connection_state();
    state.connected_over(link);
    let (stream, mut scraper) = duplex(64 * 1024);
    let scraping = async {
        let request = format!(
            "{method} /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\
             Connection: close\r\n\r\n"
        );
        scraper.write_all(request.as_bytes()).await.expect("sent");
        let mut read = Vec::new();
        scraper.read_to_end(&mut read).await.expect("the end");
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        text.split_once("\r\n\r\n").expect("a head").0.to_owned()
    };
    tokio::join!(proxy.serve_as(stream, Arc::clone(&state)), scraping).1
}

#[tokio::test(start_paused = true)]
async fn by_default_only_scrapers_that_are_far_away_get_compressed_answers() {
    for method in ["GET", "HEAD"] {
        let near = head_over(Link { is_far: false }, method).await;
        assert!(!near.contains("content-encoding"), "{near}");
        assert!(near.contains("content-length: 4"), "{near}");
        assert!(near.contains("retry-after: 2"), "asked for identity: {near}");
        let far = head_over(Link { is_far: true }, method).await;
        assert!(far.contains("content-encoding: gzip"), "{far}");
        assert!(far.contains("vary: accept-encoding"), "{far}");
        assert!(!far.contains("content-length"), "{far}");
        assert!(far.contains("retry-after: 1"), "not asked for identity: {far}");
    }
}
