//! The response head: which headers of the exporter are relayed to the scraper.

use hyper::{
    HeaderMap, Response,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
        LAST_MODIFIED, RETRY_AFTER, TRANSFER_ENCODING, VARY,
    },
};

use crate::upstream::{Framing, UpstreamHead, content_length};

/// All headers that are relayed. `Content-Length` is missing on purpose: hyper writes it from the
/// size of the body, so that the two cannot disagree.
const PASSED_ON: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_ENCODING, LAST_MODIFIED, ETAG, VARY, RETRY_AFTER];

/// The response head for the scraper: the exporter's status, and those of its headers that are
/// relayed.
#[must_use]
pub fn response_head<B>(head: &UpstreamHead, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    copy(&head.headers, response.headers_mut());
    if head.framing == Framing::Bodiless {
        if let Some(length) = announced_length(&head.headers) {
            // The response has no body from whose size hyper could write the header.
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
    }
    response
}

/// The length that a response to `HEAD` announces for `GET`, if it is a single number and no other
/// framing is announced.
fn announced_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let length = content_length(headers).ok()??;
    (!headers.contains_key(TRANSFER_ENCODING)).then(|| length.into())
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in PASSED_ON {
        for value in from.get_all(&name) {
            to.append(&name, value.clone());
        }
    }
}
