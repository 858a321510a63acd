//! Synthetic responses: everything that does not come from an exporter.

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
    error::{Afterwards, Refusal, Verdict},
    page,
    relay::ResponseBody,
};

/// The `Server` of every answer of the proxy's own. Exporters' answers never have a `Server`: it is
/// not among the headers that are passed on. So a client can tell an exporter's 401 or 500 from the
/// proxy's.
pub const SERVER_NAME: &str = "scrapegate";

/// Seconds after which a scraper that was turned away may try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The one-line response to a refused request. Constant words; nothing of the request is echoed.
#[must_use]
pub fn refusal(refusal: &Refusal) -> Response<ResponseBody> {
    let Verdict { status, reason, afterwards } = refusal.verdict();
    let line: Bytes = if matches!(refusal, Refusal::UnknownExporter) {
        // The agent's own words, to the byte.
        Bytes::from_static(b"Unknown exporter")
    } else {
        format!("{reason}\n").into()
    };
    let mut response = text(status, line);
    if status.canonical_reason() != Some(reason) {
        response.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
    let headers = response.headers_mut();
    if afterwards == Afterwards::Close {
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

/// The same, as the last one of its connection.
#[must_use]
pub fn last(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A short text.
#[must_use]
pub fn text(status: StatusCode, line: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), line.into())
}

/// A JSON document.
#[must_use]
pub fn json(document: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(StatusCode::OK, HeaderValue::from_static("application/json"), document.into())
}

/// Metrics of our own.
#[must_use]
pub fn metrics(content_type: &'static str, metrics: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(StatusCode::OK, HeaderValue::from_static(content_type), metrics.into())
}

/// The status page, with what a browser may do with it.
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
