//! Which of the exporter's headers go on to the scraper.

use hyper::{
    HeaderMap, Response,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
        LAST_MODIFIED, RETRY_AFTER, TRANSFER_ENCODING, VARY,
    },
};

use crate::upstream::{Framing, UpstreamHead, content_length};

/// All that is passed on. `Content-Length` is not here: hyper writes it from the body's size, so
/// that it cannot disagree with the body.
const PASSED_ON: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_ENCODING, LAST_MODIFIED, ETAG, VARY, RETRY_AFTER];

/// The head for the scraper: the exporter's status, and of its headers the known ones.
#[must_use]
pub fn response_head<B>(head: &UpstreamHead, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    copy(&head.headers, response.headers_mut());
    if head.framing == Framing::Bodiless {
        if let Some(length) = announced_length(&head.headers) {
            // There is no body whose size hyper could write.
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
    }
    response
}

/// The length that the answer to `HEAD` announces for `GET`: one number, and no other framing.
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
