//! Inputs for the parsers, and each parser as one call.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{HeaderName, HeaderValue},
    http::request::Parts,
};
use scrapegate::{
    common::deadline::{Budget, Deadline},
    config::{self, Config, Sources},
    http::route::{self, Route},
    scrape::{plan::response_head, transform::Transforms},
    upstream::{Framing, UpstreamHead},
};
use tempfile::TempDir;
use tokio::time::Instant;

/// A `config.ini` with every key of `[proxy]`.
const CONFIG_INI: &str = include_str!("../../config/daemon/every-proxy-key.good.ini");

/// The two INI files, with a given number of exporters.
pub struct Files {
    sources: Sources,
    bytes: usize,
    _folder: TempDir,
}

impl Files {
    /// Writes the files into a temporary folder.
    pub fn with_exporters(count: usize) -> Self {
        let folder = TempDir::with_prefix("scrapegate-bench-").expect("a temporary folder");
        let write = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let exporters: String = (0..count).map(section).collect();
        let sources = Sources {
            config: Some(write("config.ini", CONFIG_INI)),
            exporters: Some(write("prometheus_exporters.ini", &exporters)),
            listen: None,
        };
        Self { sources, bytes: CONFIG_INI.len() + exporters.len(), _folder: folder }
    }

    /// The length of both files in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Reads and checks both files.
    ///
    /// # Panics
    ///
    /// If a file has an error.
    pub fn load(&self) -> Config {
        let (config, findings) = config::load(&self.sources);
        config.unwrap_or_else(|| panic!("{findings}"))
    }
}

fn section(number: usize) -> String {
    format!(
        "[exporter {number}]\nenabled = True\nmethod = http\nhost = exporter-{number}.example\n\
         port = {}\npath = /metrics?collect[]=cpu\ninterval = 15\ntimeout = 5\n; a comment\n\n",
        1024 + number
    )
}

/// The head of a scrape with this target, as Prometheus sends it.
pub fn request(target: &str) -> Parts {
    let request = Request::get(target)
        .header("host", "host.example:3333")
        .header("user-agent", "Prometheus/2.42.0")
        .header("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")
        .header("accept-encoding", "gzip")
        .header("x-prometheus-scrape-timeout-seconds", "10");
    request.body(()).expect("a request").into_parts().0
}

/// The target of a usual scrape.
pub const TARGET: &str = "/prometheus?exporter=node_exporter";

/// A target with every feature of a query.
pub const LONG_TARGET: &str = "/prometheus?target=https%3A%2F%2Fwww.example.org%2Fa%3Fb\
    &module=http_2xx&exporter=black%62ox+exporter&collect[]=cpu&collect[]=meminfo\
    &collect[]=loadavg&collect[]=filesystem&name=%C3%A4%C3%B6%C3%BC";

/// Checks a head and finds its route.
///
/// # Panics
///
/// If it is refused.
pub fn find_route(head: &Parts) -> Route {
    route::well_formed(head).expect("well formed");
    find_exporter(&head.uri)
}

/// Finds the route of a target.
///
/// # Panics
///
/// If it is refused.
pub fn find_exporter(target: &Uri) -> Route {
    route::route(target).expect("a route")
}

/// The response head of an exporter: the headers of node_exporter, and some that are not relayed.
pub fn upstream_head() -> UpstreamHead {
    let headers: HeaderMap = [
        ("content-type", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
        ("content-encoding", "gzip"),
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("vary", "Accept-Encoding"),
        ("server", "an exporter"),
        ("set-cookie", "a=b"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect();
    UpstreamHead {
        status: StatusCode::OK,
        headers,
        framing: Framing::Chunked,
        length_ignored: false,
    }
}

/// The response head for the scraper.
pub fn rewrite(head: &UpstreamHead) -> Response<Bytes> {
    Response::from_parts(response_head(head, &Transforms::default()), Bytes::new())
}

/// Computes the deadline from Prometheus' timeout header.
pub fn deadline(arrival: Instant, header: &HeaderValue) -> Deadline {
    let budget = Budget::new(Duration::from_secs(15)).expect("within the limits");
    Deadline::of_scrape(arrival, budget, Some(header), Duration::from_millis(500))
}
