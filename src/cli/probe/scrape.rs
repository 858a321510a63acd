//! One scrape by the proxy's own client for exporters.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use hyper::{
    Request, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, HeaderValue, USER_AGENT},
    http::request::Parts,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    common::{
        deadline::Deadline,
        error::{Abort, UpstreamError},
        exporter::Exporter,
    },
    scrape::{source::Source, transform::filter::ask_for_text, verified::Verified},
    upstream::{self, Connector, ExporterRequest, Replaced, UpstreamBody, UpstreamHead},
};

/// The `Accept` header of Prometheus 2.42, so that the exporter answers as it does to Prometheus.
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
     text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
);

/// Whether the exporter may compress its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// `Accept-Encoding: gzip`, as Prometheus sends it.
    Gzip,
    /// Sends no `Accept-Encoding`, so the answer should be uncompressed.
    None,
}

/// The head of the request. The exporter sees three of its headers.
pub(super) fn request(compression: Compression) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers.insert(ACCEPT, ACCEPTED);
    let agent = HeaderValue::from_static(concat!("scrapegate/", env!("CARGO_PKG_VERSION")));
    parts.headers.insert(USER_AGENT, agent);
    match compression {
        Compression::Gzip => {
            parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Compression::None => {}
    }
    parts
}

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No head, or a head that cannot belong to metrics.
    #[error(transparent)]
    NoAnswer(#[from] UpstreamError),
    /// A status other than 200.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// The body is not complete.
    #[error("incomplete answer after {bytes} bytes and {}: {cause}", Seconds(*after))]
    Incomplete { bytes: u64, after: Duration, cause: Abort },
    /// The body is complete, but its contents are broken.
    #[error("cannot decompress the answer")]
    Gzip(#[source] std::io::Error),
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}

/// Times of a complete scrape, from before the connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// To the first byte of the body, or to the head if the body is empty.
    pub(super) first_byte: Duration,
    /// To the end of the body.
    pub(super) total: Duration,
}

/// An answer whose body is being read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: UpstreamHead,
    body: Verified<UpstreamBody>,
    begun: Instant,
    limit: Instant,
    first_byte: Duration,
}

impl Answer {
    /// Connects, sends the request and waits for the head.
    ///
    /// # Errors
    /// Those of [`upstream::fetch`], and any status other than 200, as for Prometheus.
    pub(super) async fn open(exporter: &Exporter, request: &Parts) -> Result<Self, Failure> {
        let begun = Instant::now();
        let deadline = Deadline::after(begun, exporter.rules.timeout);
        // As the proxy does.
        let replaced = match exporter.rules.families {
            Some(_) => &ask_for_text(&request.headers),
            None => &Replaced::default(),
        };
        let request = ExporterRequest { exporter, scraper: request, forwarded: "", replaced };
        let (head, body) = upstream::fetch(&Connector::Network, request, deadline).await?;
        if head.status != StatusCode::OK {
            return Err(Failure::Status(head.status));
        }
        Ok(Self {
            body: Verified::new(body, &head, exporter),
            head,
            begun,
            limit: deadline.instant(),
            first_byte: begun.elapsed(),
        })
    }

    /// The next bytes of the body, or `None` at the end of a complete body.
    ///
    /// # Errors
    /// In the cases in which the proxy would abort the scrape.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let is_first = self.body.received() == 0;
        let data = poll_fn(|cx| self.body.poll_chunk(cx));
        let data = match timeout_at(self.limit, data).await {
            Ok(data) => data.transpose().map_err(|cause| self.incomplete(cause))?,
            Err(_) => return Err(self.incomplete(Abort::DeadlineExporter)),
        };
        if is_first && data.is_some() {
            self.first_byte = self.begun.elapsed();
        }
        Ok(data)
    }

    /// Extends the deadline by a time in which this process kept the exporter waiting.
    pub(super) fn grant(&mut self, time: Duration) {
        self.limit += time;
    }

    pub(super) fn incomplete(&self, cause: Abort) -> Failure {
        Failure::Incomplete { bytes: self.body.received(), after: self.begun.elapsed(), cause }
    }

    fn timing(&self) -> Timing {
        Timing { first_byte: self.first_byte, total: self.begun.elapsed() }
    }
}

/// Scrapes once and only takes the time.
///
/// # Errors
/// If the scrape is not complete.
pub(super) async fn time(exporter: &Exporter, request: &Parts) -> Result<Timing, Failure> {
    let mut answer = Answer::open(exporter, request).await?;
    while answer.next().await?.is_some() {}
    Ok(answer.timing())
}
