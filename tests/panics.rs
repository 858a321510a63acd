//! A panic while one request is handled ends only the connection of that request.

use std::{
    future::Future,
    io::{self, Write},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Instant,
};

use scrapegate::{
    service::{telemetry::log_panics, workers::Workers},
    upstream::{Connector, Stream},
};
use scrapegate_harness::{PATIENCE, in_memory::Proxy, metrics::Samples};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::oneshot,
};

const REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\n\r\n";

/// An exporter that sends these bytes. Once the fuse is lit, the next read panics.
#[derive(Debug)]
struct Mined {
    bytes: io::Cursor<&'static str>,
    fuse: Option<oneshot::Receiver<()>>,
}

impl AsyncRead for Mined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.bytes).poll_read(cx, buf);
        if buf.filled().len() > before {
            return read;
        }
        let is_lit = self.fuse.as_mut().is_some_and(|fuse| Pin::new(fuse).poll(cx).is_ready());
        assert!(!is_lit, "mine in the\n\u{1b}[31mbody");
        Poll::Pending
    }
}

impl AsyncWrite for Mined {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The second connection to the exporter panics while it is made, the third while its body is read.
fn mined(fuse: oneshot::Receiver<()>) -> Connector {
    let (made, fuse) = (AtomicUsize::new(0), Mutex::new(Some(fuse)));
    Connector::other(move |_| {
        let (bytes, fuse) = match made.fetch_add(1, Ordering::SeqCst) {
            1 => panic!("mine in the connect"),
            2 => ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ", lock(&fuse).take()),
            _ => ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n", None),
        };
        Ok(Stream::other(Mined { bytes: io::Cursor::new(bytes), fuse }))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer for the log records.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    /// The fields of the records with this message.
    fn records(&self, message: &str) -> Vec<Value> {
        let written = lock(&self.0);
        let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice::<Value>(line).expect("an object a line"))
            .map(|mut record| record["fields"].take())
            .filter(|fields| fields["message"] == message)
            .collect()
    }
}

/// Sends a request and reads until the received bytes end with `end`.
async fn read_to(scraper: &mut DuplexStream, end: &str) -> String {
    scraper.write_all(REQUEST).await.expect("a request sent");
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        answer.push(scraper.read_u8().await.expect("more of an answer"));
    }
    String::from_utf8(answer).expect("text")
}

async fn scrape(scraper: &mut DuplexStream) {
    let answer = read_to(scraper, "\r\n\r\na 1\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// P16
#[test]
fn a_panic_ends_only_its_connection_and_is_logged_and_counted_once() {
    let written = Written::default();
    let writer = written.clone();
    let format = tracing_subscriber::fmt().json().with_writer(move || writer.clone());
    format.try_init().expect("the only subscriber");
    log_panics();

    // One worker thread for all connections, so that damage by one connection would show in the
    // others.
    let workers = Workers::start(NonZeroUsize::new(1)).expect("a thread");
    let (light, fuse) = oneshot::channel();
    let proxy = Arc::new(Proxy::new(mined(fuse)));
    let connect = || {
        let (stream, scraper) = duplex(1000);
        let proxy = Arc::clone(&proxy);
        workers.spawn(move || async move { proxy.serve(stream).await });
        scraper
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (unanswered, cut) = runtime.block_on(async {
        let mut other = connect();
        scrape(&mut other).await;

        let mut scraper = connect();
        scraper.write_all(REQUEST).await.expect("a request sent");
        let mut unanswered = String::new();
        scraper.read_to_string(&mut unanswered).await.expect("the end");
        let mut scraper = connect();
        let head = read_to(&mut scraper, "\r\n\r\na ").await;
        light.send(()).expect("the exporter waits for the fuse");
        let mut rest = String::new();
        scraper.read_to_string(&mut rest).await.expect("the end");

        // Over the existing connection and over a new one. This also shows that the exporter's only
        // slot was released.
        scrape(&mut other).await;
        scrape(&mut connect()).await;
        (unanswered, head + &rest)
    });
    // A later panic fails the test again.
    drop(std::panic::take_hook());

    assert_eq!(unanswered, "");
    assert!(cut.contains("content-length: 4\r\n"), "{cut}");
    assert!(cut.ends_with("\r\n\r\na "), "{cut}");
    let panics = written.records("panicked");
    let causes: Vec<_> = panics.iter().map(|record| record["cause"].as_str()).collect();
    assert_eq!(causes, [Some("mine in the connect"), Some("mine in the\n\u{1b}[31mbody")]);
    assert!(panics[0]["at"].as_str().is_some_and(|at| at.contains("panics.rs:")), "{panics:?}");
    // The scraper gets the last byte before the record of the scrape is written.
    let limit = Instant::now() + PATIENCE;
    let mut scrapes = written.records("scrape");
    while scrapes.len() < 5 && Instant::now() < limit {
        thread::yield_now();
        scrapes = written.records("scrape");
    }
    let outcomes: Vec<_> = scrapes.iter().map(|record| record["outcome"].as_str()).collect();
    let (complete, panicked) = (Some("complete"), Some("panicked"));
    assert_eq!(outcomes, [complete, panicked, panicked, complete, complete]);
    let samples = Samples::parse(&proxy.page());
    let counted = |series: &str| samples.value(&format!("scrapegate_{series}\"}}"));
    assert_eq!(counted("scrapes_total{exporter=\"n\",outcome=\"complete"), 3.0);
    assert_eq!(counted("scrapes_total{exporter=\"n\",outcome=\"panicked"), 2.0);
    assert_eq!(counted("truncated_total{exporter=\"n\",cause=\"panicked"), 1.0);
    assert_eq!(counted("scrapes_in_flight{exporter=\"n"), 0.0);
}
