//! Complete scrapes in memory, one after another, on this thread.

use std::{
    future::{Future, poll_fn},
    net::Ipv4Addr,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig};
use scrapegate::{
    common::{
        compression::{CompressFor, CompressionRules, ContentCoding},
        peer::Host,
    },
    downstream::handshake::{HandshakeLimiter, handshake},
    upstream::{self, Connector},
};
use tokio::runtime::{Builder, Runtime};

use super::{
    Proxy,
    counted::{Calls, Exporter, Pace, Scraper, Stream},
    tls,
};
use crate::{
    body::Kind,
    message::{Framing, Message},
};

/// The request of Prometheus 2.42, except for the last line.
pub const REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\n\
    Host: host.example:3333\r\n\
    User-Agent: Prometheus/2.42.0\r\n\
    Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\
    Accept-Encoding: gzip\r\n\
    X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\
    Connection: close\r\n\r\n";

/// The request of a scraper that accepts zstd, except for the last line.
const ZSTD_REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\n\
    Host: host.example:3333\r\n\
    Accept-Encoding: zstd\r\n\
    Connection: close\r\n\r\n";

/// A filter: its name, `metrics-drop`, and the part of the bytes that passes.
pub type Filtered = (&'static str, &'static str, f64);

/// The filters of benchmarks.
pub const FILTERED: [Filtered; 2] =
    [("families, drop half", "left_.*", 0.5), ("families, drop nothing", "other_.*", 1.0)];

/// A proxy between an exporter and scrapers in memory.
pub struct Rig {
    runtime: Runtime,
    proxy: Proxy,
    request: &'static [u8],
    /// The smallest number of bytes in an answer.
    least: usize,
    /// Calls and bytes of the exporter's streams.
    pub exporter: Arc<Calls>,
    /// Calls and bytes of the scrapers' streams.
    pub scraper: Arc<Calls>,
    limiter: HandshakeLimiter,
    polls: AtomicUsize,
    /// How often the tasks of the connections were woken.
    pub wakes: Arc<Wakes>,
}

impl Rig {
    /// Creates a proxy whose exporter answers each scrape with `message`.
    pub fn new(message: Message, pace: Pace) -> Self {
        let least = message.length;
        Self::with(super::exporter(), REQUEST, least, message, pace)
    }

    /// The same, but the proxy compresses all answers with `coding`.
    pub fn compressing(coding: ContentCoding, message: Message, pace: Pace) -> Self {
        let mut exporter = super::exporter();
        exporter.rules.compression =
            CompressionRules { compress_for: CompressFor::All, algorithms: vec![coding] };
        let request = match coding {
            ContentCoding::Zstd => ZSTD_REQUEST,
            ContentCoding::Gzip => REQUEST,
        };
        // Text shrinks to more than a fifteenth.
        let least = message.length / 15;
        Self::with(exporter, request, least, message, pace)
    }

    /// A proxy before an exporter that sends `length` bytes of families in chunks of 4 KiB, which
    /// the proxy filters.
    pub fn filtered((_, drop, part): Filtered, length: usize, pace: Pace) -> Self {
        let message = Message::new(Kind::Families, Framing::Chunked(4096), length);
        let least = (message.length as f64 * part) as usize;
        Self::with(super::exporter_without(drop), REQUEST, least, message, pace)
    }

    fn with(
        scraped: scrapegate::common::exporter::Exporter,
        request: &'static [u8],
        least: usize,
        message: Message,
        pace: Pace,
    ) -> Self {
        let exporter = Arc::new(Calls::default());
        let calls = Arc::clone(&exporter);
        let connector = Connector::other(move |_| {
            let exporter = Exporter::new(message.clone(), pace);
            Ok(upstream::Stream::other(Stream::new(exporter, Arc::clone(&calls))))
        });
        Self {
            runtime: runtime(),
            proxy: Proxy::of([scraped], connector),
            request,
            least,
            exporter,
            scraper: Arc::default(),
            limiter: HandshakeLimiter::new(NonZeroUsize::MIN),
            polls: AtomicUsize::new(0),
            wakes: Arc::default(),
        }
    }

    /// Runs one connection with one scrape, over plain HTTP.
    ///
    /// # Panics
    ///
    /// If the body did not arrive completely.
    pub fn scrape(&self) {
        let before = self.scraper.written();
        let scraper = Stream::new(Scraper::new(self.request), Arc::clone(&self.scraper));
        self.runtime.block_on(self.counted(self.proxy.serve(scraper)));
        self.assert_complete(before);
    }

    /// Runs one connection with a handshake and one scrape.
    ///
    /// # Panics
    ///
    /// If the handshake fails, or the body did not arrive completely.
    pub fn scrape_over_tls(
        &self,
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        records: &Arc<tls::Records>,
    ) {
        let before = self.scraper.written();
        let scraper =
            tls::Scraper::new(Arc::clone(client), self.request).counting(Arc::clone(records));
        let scraper = Stream::new(scraper, Arc::clone(&self.scraper));
        self.runtime.block_on(async {
            let limiter = (&self.limiter, Host::of(Ipv4Addr::LOCALHOST.into()));
            let shaken = handshake(scraper, server, Duration::from_secs(60), limiter).await;
            let (stream, _) = shaken.expect("a handshake");
            self.counted(self.proxy.serve(stream)).await;
        });
        self.assert_complete(before);
    }

    /// How often the tasks of the connections were polled.
    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    fn assert_complete(&self, before: usize) {
        let got = self.scraper.written() - before;
        assert!(got >= self.least, "{got} bytes, not {} or more", self.least);
    }

    async fn counted<F: Future<Output = ()>>(&self, task: F) {
        let mut task = pin!(task);
        let mut counted = None;
        poll_fn(|cx| {
            self.polls.fetch_add(1, Ordering::Relaxed);
            // The runtime's waker does not change while the task lives.
            let waker = counted.get_or_insert_with(|| {
                let wakes = Arc::clone(&self.wakes);
                Waker::from(Arc::new(Counted { wakes, waker: cx.waker().clone() }))
            });
            task.as_mut().poll(&mut Context::from_waker(waker))
        })
        .await;
    }
}

/// Counts wake-ups.
#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    /// Wake-ups so far.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted {
    wakes: Arc<Wakes>,
    waker: Waker,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.wakes.0.fetch_add(1, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// A single-threaded runtime, like that of each worker of the proxy, but without sockets.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}
