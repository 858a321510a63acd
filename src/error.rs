//! Why a request is not answered as hoped, and the one place that chooses the status.
//!
//! Two families, because they end differently: a [`Refusal`] comes before the head and becomes a
//! one-line response; an [`Abort`] comes after it and can only end the connection. What a client
//! reads (constant words) and what the log says (`Display` and the source chain) are two messages.

mod abort;
pub mod certificate;
mod enrol;
#[cfg(test)]
mod tests;
mod unchecked;

use std::{io, time::Duration};

use hyper::{Method, StatusCode};

pub use self::{
    abort::{Abort, IntegrityFault},
    enrol::EnrolError,
    unchecked::Unchecked,
};

/// Who caused it: where to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The scraper.
    Downstream,
    /// The exporter.
    Upstream,
    /// scrapegate itself, or whoever runs it.
    Proxy,
}

impl Blame {
    /// The word that logs use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Downstream => "scraper",
            Self::Upstream => "exporter",
            Self::Proxy => "proxy",
        }
    }
}

/// What happens to the connection after a synthetic response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// The connection is kept for the next request.
    Keep,
    /// The response says `Connection: close`, and the connection is closed.
    Close,
}

/// The methods of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// All but the next two.
    GetAndHead,
    /// Of enrolment.
    GetHeadAndPost,
    /// Of a reload.
    Post,
}

impl Methods {
    /// Whether it is one of them.
    #[must_use]
    pub fn contain(self, method: &Method) -> bool {
        let reads = method == Method::GET || method == Method::HEAD;
        match self {
            Self::GetAndHead => reads,
            Self::GetHeadAndPost => reads || method == Method::POST,
            Self::Post => method == Method::POST,
        }
    }

    /// As `Allow` has them.
    fn as_str(self) -> &'static str {
        match self {
            Self::GetAndHead => "GET, HEAD",
            Self::GetHeadAndPost => "GET, HEAD, POST",
            Self::Post => "POST",
        }
    }
}

/// Why a request gets a synthetic response.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not HTTP/1.1: in HTTP/1.0 a truncated body could not be told from a whole one.
    #[error("the request is not HTTP/1.1")]
    Version,
    /// No `Host`, more than one, an invalid one, or one that differs from the absolute target.
    #[error("the request's Host header is missing, repeated or invalid")]
    BadHost,
    /// Any sign of a body: `Content-Length` other than 0, `Transfer-Encoding`, `Expect`.
    #[error("the request has a body")]
    RequestBody,
    /// None of the methods of the request's path.
    #[error("the request's method is not allowed")]
    Method(Methods),
    /// No such path, compared byte for byte.
    #[error("no such path")]
    UnknownPath,
    /// A known path with its query behind `%3F` instead of `?`, as Prometheus sends a query that is
    /// written into `metrics_path`.
    #[error("the query is percent-encoded in the path")]
    EncodedQuery,
    /// `exporter` twice, empty, not UTF-8, a bad percent-escape, or no possible name.
    #[error("the exporter parameter is repeated, empty or malformed")]
    ExporterParameter,
    /// `exporter` at a path that is not for one exporter.
    #[error("this path does not accept an exporter parameter")]
    StrayExporterParameter,
    /// Some other parameter has a bad percent-escape.
    #[error("the query has a bad percent-escape")]
    Query,
    /// No such exporter, or a disabled one.
    #[error("unknown exporter")]
    UnknownExporter,
    /// The client certificate is not on `client-allow`.
    #[error("the client certificate is not on client-allow")]
    NotAllowed,
    /// The client was let in, and would not be any more.
    #[error("the client is no longer authorized")]
    Dismissed,
    /// Basic authentication missing or wrong.
    #[error("the user or the password is missing or wrong")]
    Unauthorized,
    /// The password could not be checked: it may be right or wrong.
    #[error(transparent)]
    Unchecked(#[from] Unchecked),
    /// The answers of our own that clients have not read yet would be too large.
    #[error("too many responses are waiting for their clients to read them")]
    TooManyAnswers,
    /// `max-concurrent` scrapes of the exporter are running.
    #[error("the exporter already has `max-concurrent` scrapes in flight")]
    TooManyScrapes,
    /// The configuration was changed and has mistakes: what it will be is not known.
    #[error("the last reload failed")]
    BrokenConfiguration,
    /// The proxy is shutting down.
    #[error("draining")]
    Draining,
    /// The system refused what the answer needs, such as a thread: nothing of the client's doing.
    #[error("not enough system resources for the request")]
    NoResources(#[source] Cause),
    /// What is in the files is not fit to run on, and what was in use stays.
    #[error("reload failed")]
    ReloadRefused,
    /// Enrolment, or what it stands before.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The exporter did not do its part.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// The words of the refusals that come before it is known which exporter a request is for.
pub const REJECTIONS: [&str; 19] = [
    "http_version",
    "bad_host",
    "request_body",
    "method",
    "unknown_path",
    "encoded_query",
    "exporter_parameter",
    "query",
    "not_allowed",
    "dismissed",
    "unauthorized",
    "password_queue_full",
    "password_too_late",
    "password_check_failed",
    "too_many_answers",
    "reload_refused",
    "broken_configuration",
    "no_resources",
    "draining",
];

/// What went wrong with the exporter before its head was passed on.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// `ECONNREFUSED`.
    #[error("exporter refused the connection")]
    Refused(#[source] io::Error),
    /// The Unix socket does not exist.
    #[error("exporter's socket does not exist")]
    NoSocket(#[source] io::Error),
    /// The host name has no address.
    #[error("exporter's host name was not found")]
    NameLookup(#[source] io::Error),
    /// No descriptor, thread or memory for one more connection: nothing of the exporter's doing.
    #[error("not enough system resources to connect to the exporter")]
    NoResources(#[source] io::Error),
    /// Any other failure to connect.
    #[error("exporter is unreachable")]
    Unreachable(#[source] io::Error),
    /// No connection, or no TLS handshake, within `connect-timeout` or what was left of it before the
    /// deadline.
    #[error("connecting to the exporter took longer than {} s", .0.as_millis() as f64 / 1e3)]
    ConnectTimeout(Duration),
    /// Its certificate is not trusted, has the wrong name, or it speaks no TLS.
    #[error("exporter failed the TLS handshake")]
    Tls(#[source] io::Error),
    /// The connection was reset before the head, or before the first byte of the body.
    #[error("exporter reset the connection")]
    Reset(#[source] Cause),
    /// The connection ended before a whole head.
    #[error("exporter closed the connection without an answer")]
    Closed,
    /// What it sent is not HTTP.
    #[error("exporter did not send valid HTTP")]
    Garbage(#[source] Cause),
    /// Head larger than 16 KiB.
    #[error("exporter sent a response head larger than 16 KiB")]
    HeadTooLarge,
    /// A `Transfer-Encoding` other than a single `chunked`.
    #[error("exporter sent an unsupported transfer coding")]
    TransferCoding,
    /// A redirect; never followed.
    #[error("exporter answered with a redirect")]
    Redirect,
    /// 101, 204, 205, 206 or 304: nothing that could be a whole answer with metrics.
    #[error("exporter answered with status {} instead of metrics", .0.as_u16())]
    NoMetrics(StatusCode),
    /// All of the body arrived before any was passed on, and it breaks `integrity`.
    #[error("exporter's answer {0}")]
    Integrity(IntegrityFault),
    /// The body ended before its first byte was passed on.
    #[error("exporter cut its answer short")]
    CutShort,
    /// `Content-Length` above `max-body`.
    #[error("exporter's answer is larger than max-body")]
    TooLarge,
    /// No complete head and first byte before the deadline.
    #[error("exporter sent no first byte in time")]
    FirstByteTimeout,
}

/// The error below, whatever it is.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A synthetic response: status, its reason phrase, what the body says, what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase. Prometheus shows it on its targets page. Constant words.
    pub reason: &'static str,
    /// The connection's fate.
    pub afterwards: Afterwards,
}

impl Refusal {
    /// Chooses the status of every synthetic response there is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        use Afterwards::{Close, Keep};
        let (status, reason, afterwards) = match self {
            Self::Version => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP Version Not Supported", Close)
            }
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad Host header", Close),
            Self::RequestBody => (StatusCode::BAD_REQUEST, "request body not allowed", Close),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", Close),
            Self::UnknownPath => (StatusCode::NOT_FOUND, "Not Found", Keep),
            Self::EncodedQuery => {
                (StatusCode::NOT_FOUND, "query is percent-encoded in the path", Keep)
            }
            Self::ExporterParameter | Self::StrayExporterParameter => {
                (StatusCode::BAD_REQUEST, "bad exporter parameter", Keep)
            }
            Self::Query => (StatusCode::BAD_REQUEST, "bad percent-escape in the query", Keep),
            Self::UnknownExporter => (StatusCode::NOT_FOUND, "Unknown exporter", Keep),
            Self::NotAllowed => {
                (StatusCode::FORBIDDEN, "client certificate is not on client-allow", Close)
            }
            Self::Dismissed => (StatusCode::FORBIDDEN, "client is no longer let in", Close),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", Keep),
            Self::Unchecked(why) => {
                let (status, reason) = why.status();
                (status, reason, Keep)
            }
            Self::TooManyAnswers => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many answers wait to be read", Keep)
            }
            Self::TooManyScrapes => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes of this exporter", Keep)
            }
            Self::BrokenConfiguration => {
                (StatusCode::SERVICE_UNAVAILABLE, "configuration has mistakes", Keep)
            }
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "shutting down", Close),
            Self::NoResources(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy is out of file descriptors, threads or memory",
                Keep,
            ),
            Self::ReloadRefused => {
                (StatusCode::INTERNAL_SERVER_ERROR, "reload refused: see the log", Keep)
            }
            Self::Enrol(error) => {
                let (status, reason) = error.status();
                (status, reason, Close)
            }
            Self::Upstream(error) => {
                let (status, reason) = error.status();
                (status, reason, Keep)
            }
        };
        Verdict { status, reason, afterwards }
    }

    /// What to change in the scraper's configuration, for the log: constant words.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        if matches!(self, Self::EncodedQuery) {
            Some("metrics_path has a query: put the exporter into params, as `exporter: [NAME]`")
        } else if matches!(self, Self::StrayExporterParameter) {
            Some("this path does not serve exporters: set metrics_path to /prometheus")
        } else {
            None
        }
    }

    /// The methods that would have been right, which a 405 has to say (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allowed_methods(&self) -> Option<&'static str> {
        if let Self::Method(allowed) = self { Some(allowed.as_str()) } else { None }
    }

    /// Who caused it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Version
            | Self::BadHost
            | Self::RequestBody
            | Self::Method(_)
            | Self::UnknownPath
            | Self::EncodedQuery
            | Self::ExporterParameter
            | Self::StrayExporterParameter
            | Self::Query
            | Self::UnknownExporter
            | Self::NotAllowed
            | Self::Dismissed
            | Self::Unauthorized => Blame::Downstream,
            Self::Unchecked(_)
            | Self::TooManyAnswers
            | Self::TooManyScrapes
            | Self::BrokenConfiguration
            | Self::Draining
            | Self::NoResources(_)
            | Self::ReloadRefused
            | Self::Upstream(UpstreamError::NoResources(_)) => Blame::Proxy,
            Self::Enrol(error) => error.blame(),
            Self::Upstream(_) => Blame::Upstream,
        }
    }

    /// One constant word for logs and counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Version => "http_version",
            Self::BadHost => "bad_host",
            Self::RequestBody => "request_body",
            Self::Method(_) => "method",
            Self::UnknownPath => "unknown_path",
            Self::EncodedQuery => "encoded_query",
            Self::ExporterParameter | Self::StrayExporterParameter => "exporter_parameter",
            Self::Query => "query",
            Self::UnknownExporter => "unknown_exporter",
            Self::NotAllowed => "not_allowed",
            Self::Dismissed => "dismissed",
            Self::Unauthorized => "unauthorized",
            Self::Unchecked(why) => why.label(),
            Self::TooManyAnswers => "too_many_answers",
            Self::TooManyScrapes => "too_many_scrapes",
            Self::BrokenConfiguration => "broken_configuration",
            Self::Draining => "draining",
            Self::NoResources(_) => "no_resources",
            Self::ReloadRefused => "reload_refused",
            Self::Enrol(error) => error.label(),
            Self::Upstream(error) => error.label(),
        }
    }
}

impl UpstreamError {
    /// What ended a body before its first byte was passed on.
    #[must_use]
    pub fn before_first_byte(abort: Abort) -> Self {
        match abort {
            Abort::ExporterReset => Self::Reset(abort.into()),
            Abort::ExporterGarbage => Self::Garbage(abort.into()),
            Abort::TooLarge => Self::TooLarge,
            Abort::DeadlineExporter => Self::FirstByteTimeout,
            Abort::Integrity(fault) => Self::Integrity(fault),
            Abort::ExporterCutShort
            | Abort::DeadlineProxy
            | Abort::DeadlineScraper
            | Abort::ScraperStalled
            | Abort::ScraperGone
            | Abort::Shutdown
            | Abort::Panicked => Self::CutShort,
        }
    }

    fn status(&self) -> (StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_GATEWAY;
        const LATE: StatusCode = StatusCode::GATEWAY_TIMEOUT;
        match self {
            Self::Refused(_) => (BAD, "exporter refused the connection"),
            Self::NoSocket(_) => (BAD, "exporter's socket does not exist"),
            Self::NameLookup(_) => (BAD, "exporter's host name was not found"),
            Self::NoResources(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy is out of file descriptors, threads or memory",
            ),
            Self::Unreachable(_) => (BAD, "exporter is unreachable"),
            Self::ConnectTimeout(_) => (LATE, "exporter did not take the connection in time"),
            Self::Tls(_) => (BAD, "exporter failed the TLS handshake"),
            Self::Reset(_) => (BAD, "exporter reset the connection"),
            Self::Closed => (BAD, "exporter closed the connection without an answer"),
            Self::Garbage(_) => (BAD, "exporter sent no valid HTTP"),
            Self::HeadTooLarge => (BAD, "exporter sent too large a head"),
            Self::TransferCoding => (BAD, "exporter sent an unsupported transfer coding"),
            Self::Redirect => (BAD, "exporter answered with a redirect"),
            Self::NoMetrics(_) => (BAD, "exporter answered without metrics"),
            Self::Integrity(IntegrityFault::NoEofMarker) => {
                (BAD, "exporter's answer lacks the final # EOF")
            }
            Self::Integrity(IntegrityFault::NoFinalNewline) => {
                (BAD, "exporter's answer lacks the final newline")
            }
            Self::CutShort => (BAD, "exporter cut its answer short"),
            Self::TooLarge => (BAD, "exporter's answer is larger than max-body"),
            Self::FirstByteTimeout => (LATE, "exporter sent no first byte in time"),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "exporter_refused",
            Self::NoSocket(_) => "exporter_no_socket",
            Self::NameLookup(_) => "exporter_name_lookup",
            Self::NoResources(_) => "no_resources",
            Self::Unreachable(_) => "exporter_unreachable",
            Self::ConnectTimeout(_) => "exporter_connect_timeout",
            Self::Tls(_) => "exporter_tls",
            Self::Reset(_) => "exporter_reset",
            Self::Closed => "exporter_closed",
            Self::Garbage(_) => "exporter_garbage",
            Self::HeadTooLarge => "exporter_head_too_large",
            Self::TransferCoding => "exporter_transfer_coding",
            Self::Redirect => "exporter_redirect",
            Self::NoMetrics(_) => "exporter_no_metrics",
            Self::Integrity(_) => "exporter_integrity",
            Self::CutShort => "exporter_cut_short",
            Self::TooLarge => "exporter_too_large",
            Self::FirstByteTimeout => "exporter_first_byte_timeout",
        }
    }
}

/// Whether the system has no descriptor, or no memory, left for one more connection.
#[must_use]
pub fn lacks_resources(error: &io::Error) -> bool {
    /// std has no kinds for them. The last is what sockets say of buffers; `ENOMEM` has a kind.
    #[cfg(unix)]
    const NO_RESOURCES: &[i32] = &[libc::ENFILE, libc::EMFILE, libc::ENOBUFS];
    #[cfg(not(unix))]
    const NO_RESOURCES: &[i32] = &[];
    error.raw_os_error().is_some_and(|code| NO_RESOURCES.contains(&code))
        || error.kind() == io::ErrorKind::OutOfMemory
}
