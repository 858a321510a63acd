//! Requests that no HTTP library would send: the response to each, whether the connection is kept,
//! and which part of the request reaches the exporter.
//!
//! The numbers (`H27`) are those of the project's list of cases, here and in the other tests.

mod forwarding;
mod framing;
mod heads;
mod lingering;
mod pipelining;
mod routes;
mod smuggling;

use std::{cell::Cell, thread};

use scrapegate_harness::{
    client::{Client, Head},
    exporter::Exporter,
    metrics::{ACCEPTED, Samples},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use serde_json::Value;

/// The counter of complete scrapes of `e`.
const SCRAPE: &str = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";

/// The log message of a refused request.
const REFUSAL: &str = "request refused";

/// A proxy with one exporter, `e`, which answers with the target of its request.
///
/// When this is dropped, every request must have been counted once and every refusal logged once.
/// No descriptor may be left open.
struct Setup {
    pki: Pki,
    proxy: Proxy,
    exporter: Exporter,
    /// Number of descriptors that the proxy has open without any connection.
    at_rest: usize,
    connections: Cell<u32>,
    /// The number of requests refused so far.
    refusals: Cell<u32>,
}

/// The response to a request.
#[derive(Debug)]
struct Answer {
    head: Head,
    body: String,
    /// Whether the connection served another request afterwards.
    kept: bool,
    /// The requests that the exporter received in between.
    upstream: Vec<String>,
}

impl Setup {
    fn new() -> Self {
        Self::with("", "")
    }

    /// With `proxy_keys` in `[proxy]`, and `exporter_keys` in `[e]` and in the sections that
    /// follow.
    fn with(proxy_keys: &str, exporter_keys: &str) -> Self {
        let pki = Pki::new();
        let config = pki.config_ini(proxy_keys);
        Self::with_config(pki, &config, exporter_keys)
    }

    fn with_config(pki: Pki, config: &str, exporter_keys: &str) -> Self {
        let exporter = Exporter::start(|conversation| {
            let request = conversation.read_request()?;
            let target = request.split(' ').nth(1).expect("a target");
            let body = format!("# {target}\n");
            let length = body.len();
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
        });
        let proxy = Proxy::start(config, &format!("{}{exporter_keys}", exporter.section("e")));
        let at_rest = proxy.open_fds();
        let (connections, refusals) = (Cell::new(0), Cell::new(0));
        Self { pki, proxy, exporter, at_rest, connections, refusals }
    }

    /// Every other connection uses TLS 1.2.
    fn connect(&self) -> Client {
        let number = self.connections.replace(self.connections.get() + 1);
        let version = BOTH_VERSIONS[usize::from(number % 2 == 1)];
        Client::connect(self.proxy.address(), self.pki.client(&[version])).expect("a handshake")
    }

    /// Sends exactly these bytes over a new connection. Returns the response and its effects.
    #[track_caller]
    fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let before = self.exporter.requests().len();
        let mut client = self.connect();
        // The proxy may answer and close before it has received everything.
        let _ = client.send(request);
        let response = client.read_response().expect("a response");
        assert!(response.body.is_complete(), "{response:?}");
        let kept = is_kept(&mut client);
        drop(client);
        let upstream = self.exporter.requests().split_off(before);
        let says_close = response.head.header("connection") == Some("close");
        assert_eq!(kept, !says_close, "{response:?}");
        self.refused(u32::from(response.head.status >= 400));
        self.assert_counted();
        Answer { body: response.body.text(), head: response.head, kept, upstream }
    }

    /// Adds `more` to the number of refused requests.
    fn refused(&self, more: u32) {
        self.refusals.set(self.refusals.get() + more);
    }

    /// Asserts that each connection, each scrape and each refusal is counted once, and nothing else.
    #[track_caller]
    fn assert_counted(&self) {
        let is_refusal = |series: &str| {
            series.starts_with("scrapegate_http_rejected_total{")
                || series.starts_with("scrapegate_scrapes_total{exporter=\"unknown\"")
        };
        let start = Samples::default();
        let counted = |samples: &Samples| {
            let mut events = samples.events_since(&start);
            let accepted = events.remove(ACCEPTED).unwrap_or_default();
            let scrapes = events.remove(SCRAPE).unwrap_or_default();
            assert!(events.keys().all(|series| is_refusal(series)), "{events:?}");
            [accepted, scrapes, events.values().sum()]
        };
        let mut reader = self.connect();
        let scrapes = u32::try_from(self.exporter.connections()).expect("fewer");
        let expected = [self.connections.get(), scrapes, self.refusals.get()].map(f64::from);
        let samples = Samples::wait_for(&mut reader, "", &format!("{expected:?}"), |samples| {
            counted(samples).iter().zip(expected).all(|(counted, expected)| *counted >= expected)
        });
        assert_eq!(counted(&samples), expected, "{samples:#?}");
    }

    /// Asserts that each refusal is logged once, and that the records contain nothing of the
    /// requests except names of exporters.
    #[track_caller]
    fn assert_logged(&self) {
        self.proxy.assert_logged(REFUSAL, self.refusals.get().into());
        let lines = self.proxy.log_lines();
        let records = lines.iter().map(|line| serde_json::from_str(line).expect("a record"));
        let is_refusal = |record: &Value| record["fields"]["message"] == REFUSAL;
        for mut record in records.filter(is_refusal) {
            record["fields"]["exporter"].take();
            let record = record.to_string().to_ascii_lowercase();
            assert!(!record.contains("marker"), "{record}");
        }
    }

    /// Asserts a refusal by the proxy that repeats nothing of the request, and that nothing reached
    /// the exporter.
    #[track_caller]
    fn assert_refused(&self, request: impl AsRef<[u8]>, status: u16, kept: bool) -> Head {
        let shown = shown(request.as_ref());
        let answer = self.ask(request);
        assert_eq!((answer.head.status, answer.kept), (status, kept), "{shown:?}: {answer:?}");
        assert!(answer.upstream.is_empty(), "{shown:?}: {answer:?}");
        let everything = format!("{answer:?}").to_ascii_lowercase();
        assert!(!everything.contains("marker"), "{shown:?}: {answer:?}");
        answer.head
    }

    /// Asserts that exactly one request with this target reached the exporter.
    #[track_caller]
    fn assert_scraped(&self, request: impl AsRef<[u8]>, target: &str) {
        let answer = self.ask(&request);
        let shown = shown(request.as_ref());
        assert_eq!((answer.head.status, answer.kept), (200, true), "{shown:?}: {answer:?}");
        assert_eq!(answer.body, format!("# {target}\n"));
        assert_eq!(answer.upstream.len(), 1, "{shown:?}: {answer:?}");
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.assert_counted();
        self.proxy.assert_at_rest(self.at_rest);
        self.assert_logged();
    }
}

/// The start of a request, for messages.
fn shown(request: &[u8]) -> String {
    String::from_utf8_lossy(request).chars().take(200).collect()
}

/// Whether a connection serves another request.
fn is_kept(client: &mut Client) -> bool {
    if client.send("GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").is_err() {
        return false;
    }
    let Ok(response) = client.read_response() else { return false };
    assert_eq!(response.head.status, 200, "an answer to something else: {response:?}");
    assert_eq!(response.body.text(), "healthy\n");
    true
}

/// A scrape with `Host` and these header lines.
fn scrape_with(lines: &str) -> String {
    format!("GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// Asserts that the proxy created the request to the exporter: it has this target and these
/// headers, and nothing else.
/// these headers, and nothing else.
#[track_caller]
fn assert_canonical(exporter: &Exporter, request: &str, target: &str) {
    let (start, timeout) =
        request.split_once("x-prometheus-scrape-timeout-seconds: ").expect("a timeout");
    let address = exporter.address();
    assert_eq!(start, format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n"));
    let (seconds, end) = timeout.split_once("\r\n").expect("a line");
    assert!(seconds.parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "{request:?}");
    assert_eq!(end, "\r\n", "{request:?}");
}
