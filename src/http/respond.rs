//! Synthetic responses: all responses that do not come from an exporter.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    ext::ReasonPhrase,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
        REFERRER_POLICY, RETRY_AFTER, SERVER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::{
    common::error::{ConnectionAfter, ErrorInfo, Refusal},
    http::body::ResponseBody,
    http::page,
};

/// The `Server` header of every response that the proxy makes itself. The proxy never passes on an
/// exporter's `Server` header. A client can therefore distinguish an exporter's 401 or 500 from the
/// proxy's.
pub const SERVER_NAME: &str = "scrapegate";

/// The value of `Retry-After` in every 503, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The one-line response to a refused request. It has constant words and echoes nothing of the
/// request.
#[must_use]
pub fn refusal(refusal: &Refusal) -> Response<ResponseBody> {
    let ErrorInfo { status, reason, connection, .. } = refusal.info();
    let line: Bytes = if matches!(refusal, Refusal::UnknownExporter) {
        // The same bytes as the openITCOCKPIT agent sends.
        Bytes::from_static(b"Unknown exporter")
    } else {
        format!("{reason}\n").into()
    };
    let mut response = text(status, line);
    if status.canonical_reason() != Some(reason) {
        response.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
    let headers = response.headers_mut();
    if connection == ConnectionAfter::Close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(allowed) = refusal.allowed_methods() {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"scrapegate\", charset=\"UTF-8\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

/// Adds `Connection: close`, because the connection ends after this response.
#[must_use]
pub fn last(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A plain-text response.
#[must_use]
pub fn text(status: StatusCode, line: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), line.into())
}

/// A 200 response with a JSON document.
#[must_use]
pub fn json(document: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(StatusCode::OK, HeaderValue::from_static("application/json"), document.into())
}

/// A 200 response with the proxy's own metrics.
#[must_use]
pub fn metrics(content_type: &'static str, metrics: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(StatusCode::OK, HeaderValue::from_static(content_type), metrics.into())
}

/// A 200 response with the status page. Its headers restrict what a browser does with it: a
/// Content-Security-Policy, no MIME sniffing, no referrer, no caching.
#[must_use]
pub fn page(html: impl Into<Bytes>) -> Response<ResponseBody> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = with_type(StatusCode::OK, kind, html.into());
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&page::CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::fixed(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}
