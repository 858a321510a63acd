//! Which of the exporter's headers go on to the scraper.

use hyper::{
    HeaderMap, Response,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED,
        RETRY_AFTER, VARY,
    },
};

use crate::upstream::UpstreamHead;

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
    if let (crate::upstream::Framing::Bodiless, Some(length)) =
        (head.framing, head.headers.get(CONTENT_LENGTH))
    {
        // The answer to HEAD: there is no body whose size hyper could write.
        response.headers_mut().insert(CONTENT_LENGTH, length.clone());
    }
    response
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in PASSED_ON {
        for value in from.get_all(&name) {
            to.append(&name, value.clone());
        }
    }
}
