//! Why the proxy answers a request itself.

use hyper::{Method, StatusCode};

use super::{
    cause::Cause,
    enrol::EnrolError,
    info::{
        Blame::{Downstream, Proxy},
        ErrorInfo, rows,
    },
    unchecked::Unchecked,
    upstream::UpstreamError,
};

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

rows! {
    Refusal => ErrorInfo {
        Self::Version => ErrorInfo::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "HTTP Version Not Supported", "http_version", Downstream,
        ).and_close(),
        Self::BadHost => ErrorInfo::new(
            StatusCode::BAD_REQUEST,
            "bad Host header", "bad_host", Downstream,
        ).and_close(),
        Self::RequestBody => ErrorInfo::new(
            StatusCode::BAD_REQUEST,
            "request body not allowed", "request_body", Downstream,
        ).and_close(),
        Self::Method(_) => ErrorInfo::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method Not Allowed", "method", Downstream,
        ).and_close(),
        Self::UnknownPath => ErrorInfo::new(
            StatusCode::NOT_FOUND,
            "Not Found", "unknown_path", Downstream,
        ),
        Self::EncodedQuery => ErrorInfo::new(
            StatusCode::NOT_FOUND,
            "query is percent-encoded in the path", "encoded_query", Downstream,
        ),
        Self::ExporterParameter | Self::StrayExporterParameter => ErrorInfo::new(
            StatusCode::BAD_REQUEST,
            "bad exporter parameter", "exporter_parameter", Downstream,
        ),
        Self::Query => ErrorInfo::new(
            StatusCode::BAD_REQUEST,
            "bad percent-escape in the query", "query", Downstream,
        ),
        Self::UnknownExporter => ErrorInfo::new(
            StatusCode::NOT_FOUND,
            "Unknown exporter", "unknown_exporter", Downstream,
        ).of_scrapes(),
        Self::NotAllowed => ErrorInfo::new(
            StatusCode::FORBIDDEN,
            "client certificate is not on client-allow", "not_allowed", Downstream,
        ).and_close(),
        Self::Dismissed => ErrorInfo::new(
            StatusCode::FORBIDDEN,
            "client is no longer let in", "dismissed", Downstream,
        ).and_close(),
        Self::Unauthorized => ErrorInfo::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized", "unauthorized", Downstream,
        ),
        Self::TooManyAnswers => ErrorInfo::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many answers wait to be read", "too_many_answers", Proxy,
        ),
        Self::TooManyScrapes => ErrorInfo::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many scrapes of this exporter", "too_many_scrapes", Proxy,
        ).of_scrapes(),
        Self::BrokenConfiguration => ErrorInfo::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "configuration has mistakes", "broken_configuration", Proxy,
        ),
        Self::Draining => ErrorInfo::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down", "draining", Proxy,
        ).and_close(),
        Self::NoResources(_) => ErrorInfo::no_resources("no_resources"),
        Self::ReloadRefused => ErrorInfo::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reload refused: see the log", "reload_refused", Proxy,
        ),
    }
    nested {
        Unchecked(Unchecked),
        Enrol(EnrolError),
        Upstream(UpstreamError),
    }
}

impl Refusal {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_allows_exactly_the_methods_of_its_allow_header() {
        for methods in [Methods::GetAndHead, Methods::GetHeadAndPost, Methods::Post] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
                let is_listed =
                    methods.as_str().split(", ").any(|listed| listed == method.as_str());
                assert_eq!(methods.contain(&method), is_listed, "{methods:?} {method}");
            }
        }
    }
}
