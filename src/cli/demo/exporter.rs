//! The demo's exporter: any number of series, formatted while they are sent.

use std::{
    convert::Infallible,
    fmt::{self, Write as _},
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The name of the exporter at the proxy.
pub(super) const NAME: &str = "demo";

/// Size of a chunk in bytes, as Go's net/http sends it. Most exporters use that library.
const CHUNK: usize = 4096;

/// Pause after a failed accept, for example when the process has no free file descriptor.
const BACK_OFF: Duration = Duration::from_millis(50);

/// An HTTP server on loopback whose `/metrics` has a given number of series.
#[derive(Debug)]
pub(super) struct SyntheticExporter {
    listener: TcpListener,
    address: SocketAddr,
    series: u64,
}

impl SyntheticExporter {
    /// Listens on a free port. Connections wait in the backlog until [`Self::serve`] runs.
    pub(super) async fn bind(series: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, series })
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped, which closes all connections.
    pub(super) async fn serve(self) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, self.series));
                }
                Err(_) => tokio::time::sleep(BACK_OFF).await,
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn serve_connection(stream: TcpStream, series: u64) {
    // Without it, only latency suffers.
    let _ = stream.set_nodelay(true);
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), series))
    });
    // Ignore a scraper that disconnects.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<Either<Exposition, Full<Bytes>>>;

fn answer(method: &Method, path: &str, series: u64) -> Answer {
    if path != "/metrics" {
        return refusal(StatusCode::NOT_FOUND);
    }
    if method != Method::GET && method != Method::HEAD {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Either::Left(Exposition::new(series)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

fn refusal(status: StatusCode) -> Answer {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(Either::Right(Full::from(format!("{reason}\n"))));
    *response.status_mut() = status;
    response
}

/// A body in the text format 0.0.4, formatted chunk by chunk. The same number of series always
/// gives the same bytes.
#[derive(Debug)]
struct Exposition {
    /// Families that have not started yet, in reverse order.
    families: Vec<(Family, u64)>,
    /// The current family, its next line and its number of lines.
    current: Option<(Family, u64, u64)>,
    text: BytesMut,
}

impl Exposition {
    fn new(series: u64) -> Self {
        // A histogram has only complete groups of lines. The gauges fill up the rest.
        let requests = series / 3;
        let durations = series / 4 / HISTOGRAM_LINES * HISTOGRAM_LINES;
        let queries = series / 5;
        let depths = series - requests - durations - queries;
        let mut text = BytesMut::with_capacity(2 * CHUNK);
        text.extend_from_slice(b"# The synthetic exporter of `scrapegate demo`.\n");
        Self {
            families: vec![
                (Family::QueueDepth, depths),
                (Family::Queries, queries),
                (Family::RequestDuration, durations),
                (Family::Requests, requests),
            ],
            current: None,
            text,
        }
    }

    /// Formats the next line. Returns `false` after the last one.
    fn next_line(&mut self) -> bool {
        match &mut self.current {
            Some((family, next, lines)) if *next < *lines => {
                family.write_sample(*next, &mut self.text);
                *next += 1;
                true
            }
            Some(_) | None => {
                while let Some((family, lines)) = self.families.pop() {
                    if lines > 0 {
                        family.write_head(&mut self.text);
                        self.current = Some((family, 0, lines));
                        return true;
                    }
                }
                self.current = None;
                false
            }
        }
    }
}

impl Body for Exposition {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.text.len() < CHUNK && self.next_line() {}
        let length = self.text.len().min(CHUNK);
        let chunk = self.text.split_to(length).freeze();
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }
}

#[derive(Clone, Copy, Debug)]
enum Family {
    Requests,
    RequestDuration,
    Queries,
    QueueDepth,
}

const HANDLERS: [&str; 8] = [
    "/",
    "/api/v1/orders",
    "/api/v1/orders/{id}",
    "/api/v1/users/{id}/sessions",
    "/api/v1/search",
    "/assets/{file}",
    "/healthz",
    "/login",
];
const CODES: [&str; 5] = ["200", "201", "304", "404", "500"];
const STATEMENTS: [&str; 4] = ["select", "insert", "update", "delete"];
const QUEUES: [&str; 6] = ["mail", "billing", "thumbnails", "search-index", "audit", "export"];

/// Upper bounds of the buckets, each with the number of observations below it, out of 1000.
const BUCKETS: [(&str, u64); 12] = [
    ("0.005", 112),
    ("0.01", 261),
    ("0.025", 498),
    ("0.05", 673),
    ("0.1", 801),
    ("0.25", 903),
    ("0.5", 951),
    ("1", 978),
    ("2.5", 992),
    ("5", 997),
    ("10", 999),
    ("+Inf", 1000),
];
/// The buckets, the sum and the count.
const HISTOGRAM_LINES: u64 = BUCKETS.len() as u64 + 2;

impl Family {
    fn write_head(self, text: &mut BytesMut) {
        let (name, kind, help) = match self {
            Self::Requests => ("demo_http_requests_total", "counter", "HTTP requests answered."),
            Self::RequestDuration => (
                "demo_http_request_duration_seconds",
                "histogram",
                "Time from a request's first byte to the response's last.",
            ),
            Self::Queries => {
                ("demo_database_queries_total", "counter", "Statements sent to the database.")
            }
            Self::QueueDepth => ("demo_queue_depth", "gauge", "Jobs that wait in a queue."),
        };
        line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Writes the sample with this number. All samples of a family have different labels.
    fn write_sample(self, number: u64, text: &mut BytesMut) {
        match self {
            Self::Requests => {
                let (rest, handler) = pick(number, &HANDLERS);
                let (instance, code) = pick(rest, &CODES);
                let value = noise(number) % 1_000_000;
                line(
                    text,
                    format_args!(
                        "demo_http_requests_total{{handler=\"{handler}\",code=\"{code}\",\
                         instance_id=\"i-{instance:08x}\"}} {value}\n"
                    ),
                );
            }
            Self::RequestDuration => write_histogram_line(number, text),
            Self::Queries => {
                let (rest, statement) = pick(number, &STATEMENTS);
                let (table, shard) = (rest % 32, rest / 32);
                let value = noise(number) % 100_000_000;
                line(
                    text,
                    format_args!(
                        "demo_database_queries_total{{statement=\"{statement}\",\
                         table=\"table_{table:02}\",shard=\"{shard}\"}} {value}\n"
                    ),
                );
            }
            Self::QueueDepth => {
                let (worker, queue) = pick(number, &QUEUES);
                let value = noise(number) % 250;
                line(
                    text,
                    format_args!(
                        "demo_queue_depth{{queue=\"{queue}\",worker=\"worker-{worker:05}\"}} \
                         {value}\n"
                    ),
                );
            }
        }
    }
}

fn write_histogram_line(number: u64, text: &mut BytesMut) {
    let (group, place) = (number / HISTOGRAM_LINES, number % HISTOGRAM_LINES);
    let (instance, handler) = pick(group, &HANDLERS);
    write_histogram_sample(
        place,
        noise(group) % 100_000,
        format_args!("handler=\"{handler}\",instance_id=\"i-{instance:08x}\""),
        text,
    );
}

fn write_histogram_sample(place: u64, count: u64, labels: fmt::Arguments<'_>, text: &mut BytesMut) {
    let name = "demo_http_request_duration_seconds";
    let bucket = usize::try_from(place).ok().and_then(|place| BUCKETS.get(place));
    match bucket {
        Some((bound, of_1000)) => {
            let below = count * of_1000 / 1000;
            line(text, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}\n"));
        }
        None if place + 1 < HISTOGRAM_LINES => {
            let (seconds, millis) = (count * 83 / 1000, count * 83 % 1000);
            line(text, format_args!("{name}_sum{{{labels}}} {seconds}.{millis:03}\n"));
        }
        None => line(text, format_args!("{name}_count{{{labels}}} {count}\n")),
    }
}

fn line(text: &mut BytesMut, line: fmt::Arguments<'_>) {
    // BytesMut grows, so this cannot fail.
    let _ = text.write_fmt(line);
}

/// Takes `number` as digits in base `values.len()`: picks a value by the lowest digit, and returns
/// the other digits.
fn pick<'a>(number: u64, values: &[&'a str]) -> (u64, &'a str) {
    let base = values.len() as u64;
    let digit = usize::try_from(number % base).unwrap_or_default();
    (number / base, values[digit])
}

/// A pseudo-random number that depends only on `number` (the finalizer of SplitMix64).
fn noise(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn chunks(series: u64) -> Vec<Bytes> {
        let mut body = Exposition::new(series);
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame;
            chunks.push(frame.into_data().expect("data"));
        }
        chunks
    }

    async fn text(series: u64) -> String {
        String::from_utf8(chunks(series).await.concat()).expect("UTF-8")
    }

    fn samples(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| !line.starts_with('#'))
    }

    #[tokio::test]
    async fn the_number_of_samples_is_the_number_asked_for() {
        for series in [0, 1, 7, 55, 56, 57, 100_000] {
            let text = text(series).await;
            assert_eq!(samples(&text).count() as u64, series);
            assert!(text.ends_with('\n'), "{series}");
        }
    }

    #[tokio::test]
    async fn no_series_appears_twice() {
        let text = text(100_000).await;
        let names: HashSet<_> =
            samples(&text).map(|line| line.rsplit_once(' ').expect("a value").0).collect();
        assert_eq!(names.len(), 100_000);
    }

    #[tokio::test]
    async fn a_histogram_is_cumulative_and_complete() {
        let text = text(1000).await;
        let mut below = 0;
        let mut groups = 0;
        for line in samples(&text).filter(|line| line.contains("_duration_seconds_")) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            if series.contains("_bucket") {
                let value: u64 = value.parse().expect("a count");
                assert!(value >= below, "{line}");
                below = value;
            } else if series.contains("_count") {
                assert_eq!(value, below.to_string(), "{line}");
                groups += 1;
                below = 0;
            }
        }
        assert_eq!(groups, 1000 / 4 / HISTOGRAM_LINES);
    }

    #[tokio::test]
    async fn chunks_have_4_kib_and_only_the_last_one_less() {
        let chunks = chunks(1000).await;
        let (last, full) = chunks.split_last().expect("chunks");
        assert!(full.iter().all(|chunk| chunk.len() == CHUNK));
        assert!((1..=CHUNK).contains(&last.len()));
    }

    /// The exporter's answer to `request`, which must ask to close the connection.
    async fn exchange(series: u64, request: &str) -> String {
        let exporter = SyntheticExporter::bind(series).await.expect("bound");
        let address = exporter.address();
        let mut background = JoinSet::new();
        background.spawn(exporter.serve());
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_chunked() {
        let answer = exchange(7, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = answer.await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.ends_with("\n\r\n0\r\n\r\n"), "{body}");
    }

    #[tokio::test]
    async fn head_is_answered_without_a_body() {
        let answer = exchange(7, "HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = answer.await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(!answer.contains("demo_"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        for (request_line, status) in [
            ("GET / HTTP/1.1", "HTTP/1.1 404 Not Found\r\n"),
            ("POST /metrics HTTP/1.1", "HTTP/1.1 405 Method Not Allowed\r\n"),
        ] {
            let request = format!("{request_line}\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = exchange(7, &request).await;
            assert!(answer.starts_with(status), "{answer}");
        }
    }
}
