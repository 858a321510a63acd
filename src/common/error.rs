//! Why a request fails, and the one place that chooses the status of the response.
//!
//! There are two families of errors. A [`Refusal`] happens before the response head is sent and
//! becomes a one-line response. An [`Abort`] happens after the head was sent and can only close the
//! connection. The client reads constant words; the log has the `Display` text and the source
//! chain.

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

/// Who caused an error, and so where an operator looks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The scraper.
    Downstream,
    /// The exporter.
    Upstream,
    /// scrapegate itself, its configuration or its host.
    Proxy,
}

impl Blame {
    /// The value of the log field `blame`.
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
    /// The connection stays open for the next request.
    Keep,
    /// The response says `Connection: close`, and the connection is closed.
    Close,
}

/// The methods that a path allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// `GET` and `HEAD`: all paths except those for enrollment and reload.
    GetAndHead,
    /// `GET`, `HEAD` and `POST`: enrollment (`/autotls`).
    GetHeadAndPost,
    /// `POST`: a reload (`/-/reload`).
    Post,
}

impl Methods {
    /// Whether the path allows `method`.
    #[must_use]
    pub fn contain(self, method: &Method) -> bool {
        let reads = method == Method::GET || method == Method::HEAD;
        match self {
            Self::GetAndHead => reads,
            Self::GetHeadAndPost => reads || method == Method::POST,
            Self::Post => method == Method::POST,
        }
    }

    /// The value of the `Allow` header.
    fn as_str(self) -> &'static str {
        match self {
            Self::GetAndHead => "GET, HEAD",
            Self::GetHeadAndPost => "GET, HEAD, POST",
            Self::Post => "POST",
        }
    }
}

/// Why the proxy answers a request itself instead of passing on an exporter's response.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is not HTTP/1.1. An HTTP/1.0 client cannot distinguish a truncated body from a
    /// complete one.
    #[error("the request is not HTTP/1.1")]
    Version,
    /// No `Host`, more than one, an invalid one, or one that differs from the absolute target.
    #[error("the request's Host header is missing, repeated or invalid")]
    BadHost,
    /// The request has a body, or may have one: `Content-Length` other than 0, `Transfer-Encoding`
    /// or `Expect`.
    #[error("the request has a body")]
    RequestBody,
    /// The path does not allow the method. Carries the methods that it allows.
    #[error("the request's method is not allowed")]
    Method(Methods),
    /// The path is unknown. Paths are compared byte for byte.
    #[error("no such path")]
    UnknownPath,
    /// A known path whose query follows `%3F` instead of `?`. Prometheus sends this if
    /// `metrics_path` contains a query.
    #[error("the query is percent-encoded in the path")]
    EncodedQuery,
    /// The `exporter` parameter is repeated, empty, not UTF-8, badly percent-encoded, or cannot be
    /// the name of an exporter.
    #[error("the exporter parameter is repeated, empty or malformed")]
    ExporterParameter,
    /// The `exporter` parameter on a path that does not serve a single exporter.
    #[error("this path does not accept an exporter parameter")]
    StrayExporterParameter,
    /// Another parameter is badly percent-encoded.
    #[error("the query has a bad percent-escape")]
    Query,
    /// No exporter has this name, or the exporter is disabled.
    #[error("unknown exporter")]
    UnknownExporter,
    /// No pattern of `client-allow` matches the client certificate.
    #[error("the client certificate is not on client-allow")]
    NotAllowed,
    /// The client was authorized when it connected and no longer is, for example after a reload.
    #[error("the client is no longer authorized")]
    Dismissed,
    /// HTTP Basic credentials are missing or wrong.
    #[error("the user or the password is missing or wrong")]
    Unauthorized,
    /// The password could not be checked. It may be right or wrong.
    #[error(transparent)]
    Unchecked(#[from] Unchecked),
    /// The proxy's own responses that clients have not read yet would exceed their memory limit.
    #[error("too many answers wait for their clients to read them")]
    TooManyAnswers,
    /// `max-concurrent` scrapes of the exporter are running.
    #[error("the exporter already has `max-concurrent` scrapes in flight")]
    TooManyScrapes,
    /// The changed configuration has errors. Discovery then refuses to answer, so that Prometheus
    /// keeps its list of targets.
    #[error("the last reload failed")]
    BrokenConfiguration,
    /// The proxy is shutting down.
    #[error("draining")]
    Draining,
    /// The system refused a resource that the response needs, such as a thread. The client is not
    /// to blame.
    #[error("not enough system resources for the request")]
    NoResources(#[source] Cause),
    /// The files have errors or could not be read. The current configuration stays in use.
    #[error("reload failed")]
    ReloadRefused,
    /// Enrollment failed, or the host must be enrolled before it serves this path.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The exporter's response cannot be passed on.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// The labels of all refusals that happen before the exporter of a request is known.
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

/// Why no response of the exporter was passed on.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The exporter's host refused the connection (`ECONNREFUSED`).
    #[error("exporter refused the connection")]
    Refused(#[source] io::Error),
    /// The Unix socket does not exist.
    #[error("exporter's socket does not exist")]
    NoSocket(#[source] io::Error),
    /// The host name could not be resolved.
    #[error("exporter's host name was not found")]
    NameLookup(#[source] io::Error),
    /// No file descriptor, thread or memory for another connection. The exporter is not to blame.
    #[error("not enough system resources to connect to the exporter")]
    NoResources(#[source] io::Error),
    /// Any other error of connecting.
    #[error("exporter is unreachable")]
    Unreachable(#[source] io::Error),
    /// Connecting, including the TLS handshake, took longer than `connect-timeout` or than the time
    /// left before the scrape's deadline. Carries the limit.
    #[error("connecting to the exporter took longer than {} s", .0.as_millis() as f64 / 1e3)]
    ConnectTimeout(Duration),
    /// The exporter's certificate is not trusted or has the wrong name, or the exporter does not
    /// speak TLS.
    #[error("exporter failed the TLS handshake")]
    Tls(#[source] io::Error),
    /// The connection was reset before the head, or before the first byte of the body.
    #[error("exporter reset the connection")]
    Reset(#[source] Cause),
    /// The connection ended before the head was complete.
    #[error("exporter closed the connection without an answer")]
    Closed,
    /// The response is not valid HTTP.
    #[error("exporter did not send valid HTTP")]
    Garbage(#[source] Cause),
    /// The response head is larger than 16 KiB.
    #[error("exporter sent a response head larger than 16 KiB")]
    HeadTooLarge,
    /// A `Transfer-Encoding` other than a single `chunked`.
    #[error("exporter sent an unsupported transfer coding")]
    TransferCoding,
    /// A redirect. scrapegate never follows redirects.
    #[error("exporter answered with a redirect")]
    Redirect,
    /// Status 101, 204, 205, 206 or 304, which cannot be a complete response with metrics.
    #[error("exporter answered with status {} instead of metrics", .0.as_u16())]
    NoMetrics(StatusCode),
    /// The whole body arrived before any of it was passed on, and the body fails the `integrity`
    /// check.
    #[error("exporter's answer {0}")]
    Integrity(IntegrityFault),
    /// The body ended before its first byte was passed on.
    #[error("exporter cut its answer short")]
    CutShort,
    /// `Content-Length` above `max-body`.
    #[error("exporter's answer is larger than max-body")]
    TooLarge,
    /// The head and the first byte of the body did not arrive before the deadline.
    #[error("exporter sent no first byte in time")]
    FirstByteTimeout,
}

/// The underlying error, of any type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A synthetic response: its status, its reason phrase, and what happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase, in constant words. Prometheus shows it on its targets page.
    pub reason: &'static str,
    /// What happens to the connection.
    pub afterwards: Afterwards,
}

impl Refusal {
    /// Chooses the status of every synthetic error response.
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

    /// What to change in the scraper's configuration: constant words for the log.
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

    /// The allowed methods, which a 405 response must list (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allowed_methods(&self) -> Option<&'static str> {
        if let Self::Method(allowed) = self { Some(allowed.as_str()) } else { None }
    }

    /// Who caused the refusal.
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

    /// The refusal's label in logs and counters: one constant word.
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
    /// The error for a body that was aborted before its first byte was passed on.
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

/// Whether the error says that the system has no file descriptor or memory for another connection.
#[must_use]
pub fn lacks_resources(error: &io::Error) -> bool {
    /// std has no `ErrorKind` for these. A socket returns `ENOBUFS` if there is no memory for its
    /// buffers. `ENOMEM` has a kind.
    #[cfg(unix)]
    const NO_RESOURCES: &[i32] = &[libc::ENFILE, libc::EMFILE, libc::ENOBUFS];
    #[cfg(not(unix))]
    const NO_RESOURCES: &[i32] = &[];
    error.raw_os_error().is_some_and(|code| NO_RESOURCES.contains(&code))
        || error.kind() == io::ErrorKind::OutOfMemory
}
