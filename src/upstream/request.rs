//! The request that an exporter gets: from the configuration, and few things of the scraper's.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue,
        USER_AGENT,
    },
    http::request::Parts,
};

use crate::{deadline::SCRAPE_TIMEOUT_HEADER, error::UpstreamError, exporter::Exporter};

/// All of the scraper's headers that go on.
const FORWARDED: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, USER_AGENT];

/// Builds the request. `left` is what remains of the scrape's time.
pub(super) fn build(
    exporter: &Exporter,
    scraper: &Parts,
    forwarded: &str,
    left: Duration,
) -> Result<Request<Empty<Bytes>>, UpstreamError> {
    let mut target = exporter.path.as_str().to_owned();
    if exporter.rules.forward_params && !forwarded.is_empty() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(forwarded);
    }
    let mut request = Request::builder()
        .method(scraper.method.clone())
        .uri(target)
        .header(HOST, exporter.target.authority())
        .header(CONNECTION, HeaderValue::from_static("close"))
        .header(SCRAPE_TIMEOUT_HEADER, format!("{:.6}", left.as_secs_f64()))
        .body(Empty::new())
        // Both halves of the target were valid on their own; together they can be too long.
        .map_err(|error| UpstreamError::Garbage(error.into()))?;
    let headers = request.headers_mut();
    for name in FORWARDED {
        for value in scraper.headers.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    if let Some(authorization) = &exporter.authorization {
        headers.insert(AUTHORIZATION, authorization.header_value());
    }
    Ok(request)
}
