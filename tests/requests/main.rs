//! Requests as no HTTP library would send them: what each is answered, whether the connection is
//! kept, and what of it reaches the exporter.
//!
//! The numbers (`H27`) are those of the list of hostile cases that the project keeps, here and in
//! the other tests.

mod forwarding;
mod framing;
mod heads;
mod lingering;
mod pipelining;
mod routes;
mod smuggling;

#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;

use serde_json::Value;

use support::{
    client::{Client, Head},
    exporter::Exporter,
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// A proxy with one exporter, `e`, that answers with the target it was asked for.
struct Setup {
    pki: Pki,
    proxy: Proxy,
    exporter: Exporter,
    connections: Cell<usize>,
    /// Requests that were refused: each is counted once.
    refusals: Cell<usize>,
}

/// How a request was answered.
#[derive(Debug)]
struct Answer {
    head: Head,
    body: String,
    /// The connection served another request afterwards.
    kept: bool,
    /// The requests that the exporter got meanwhile.
    upstream: Vec<String>,
}

impl Setup {
    fn new() -> Self {
        Self::with("", "")
    }

    /// With `proxy_keys` in `[proxy]` and `exporter_keys` in `[e]` and what follows it.
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
        let (connections, refusals) = (Cell::new(0), Cell::new(0));
        Self { pki, proxy, exporter, connections, refusals }
    }

    /// Every other connection speaks TLS 1.2.
    fn connect(&self) -> Client {
        let number = self.connections.replace(self.connections.get() + 1);
        let version = BOTH_VERSIONS[number % 2];
        Client::connect(self.proxy.address(), self.pki.client(&[version])).expect("a handshake")
    }

    /// Sends these very bytes on a connection of their own and judges what comes back.
    #[track_caller]
    fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let before = self.exporter.requests().len();
        let mut client = self.connect();
        // The proxy may have answered and closed before it has seen all of it.
        let _ = client.send(request);
        let response = client.read_response().expect("a response");
        assert!(response.body.is_complete(), "{response:?}");
        let kept = is_kept(&mut client);
        drop(client);
        let upstream = self.exporter.requests().split_off(before);
        let says_close = response.head.header("connection") == Some("close");
        assert_eq!(kept, !says_close, "{response:?}");
        if response.head.status >= 400 {
            self.assert_one_more_refusal();
        }
        Answer { body: response.body.text(), head: response.head, kept, upstream }
    }

    /// Asserts that one request more than before was refused.
    #[track_caller]
    fn assert_one_more_refusal(&self) {
        self.refusals.set(self.refusals.get() + 1);
        self.assert_refusals_are_counted();
    }

    /// Asserts that each refusal is counted once, and that the records have nothing of the requests
    /// but the names of exporters. There may be fewer records: floods are limited.
    #[track_caller]
    fn assert_refusals_are_counted(&self) {
        let expected = self.refusals.get();
        let refused = |samples: &Samples| {
            samples.sum("scrapegate_http_rejected_total{")
                + samples.sum("scrapegate_scrapes_total{exporter=\"unknown\"")
        };
        let config = self.pki.client(BOTH_VERSIONS);
        let mut reader = Client::connect(self.proxy.address(), config).expect("a handshake");
        let samples =
            Samples::wait_for(&mut reader, "", &format!("{expected} refusals"), |samples| {
                refused(samples) >= expected as f64
            });
        assert_eq!(refused(&samples), expected as f64, "{samples:#?}");
        let is_refusal = |record: &Value| record["fields"]["message"] == "request refused";
        let lines = self.proxy.log_lines();
        let records = lines.iter().map(|line| serde_json::from_str(line).expect("a record"));
        let refusals: Vec<Value> = records.filter(is_refusal).collect();
        assert!(refusals.len() <= expected, "{refusals:#?}");
        for mut record in refusals {
            record["fields"]["exporter"].take();
            let record = record.to_string().to_ascii_lowercase();
            assert!(!record.contains("marker"), "{record}");
        }
    }

    /// Asserts a refusal of ours that echoes nothing, and that the exporter saw nothing of it.
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

    /// Asserts that the exporter was asked once, and with which target.
    #[track_caller]
    fn assert_scraped(&self, request: impl AsRef<[u8]>, target: &str) {
        let answer = self.ask(&request);
        let shown = shown(request.as_ref());
        assert_eq!((answer.head.status, answer.kept), (200, true), "{shown:?}: {answer:?}");
        assert_eq!(answer.body, format!("# {target}\n"));
        assert_eq!(answer.upstream.len(), 1, "{shown:?}: {answer:?}");
    }
}

/// The beginning of a request, for messages.
fn shown(request: &[u8]) -> String {
    String::from_utf8_lossy(request).chars().take(200).collect()
}

/// Whether a connection serves one more request.
fn is_kept(client: &mut Client) -> bool {
    if client.send("GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").is_err() {
        return false;
    }
    let Ok(response) = client.read_response() else { return false };
    assert_eq!(response.head.status, 200, "an answer to something else: {response:?}");
    assert_eq!(response.body.text(), "healthy\n");
    true
}

/// A scrape with these header lines beside `Host`.
fn scrape_with(lines: &str) -> String {
    format!("GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// Asserts that each request to the exporter is one that the proxy wrote itself: this target and
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
