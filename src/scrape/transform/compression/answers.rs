//! Which answers are compressed, and how their heads change. Pure.

use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    VARY,
};

use crate::{
    common::compression::ContentCoding, scrape::encoding::Encoding, upstream::UpstreamHead,
};

/// The media types that are compressed: the text formats, OpenMetrics and protobuf.
const MEDIA_TYPES: [&[u8]; 3] =
    [b"text/plain", b"application/openmetrics-text", b"application/vnd.google.protobuf"];

/// Whether the proxy compresses an answer with this head when a scraper asks for that.
///
/// The answers of an exporter that failed are not: they are short, and people read them.
pub(in crate::scrape) fn applies_to(head: &UpstreamHead) -> bool {
    head.status.is_success()
        && Encoding::of(&head.headers) == Encoding::Identity
        && !forbids_transforms(&head.headers)
        && has_media_type(&head.headers)
}

/// Whether `Cache-Control` of a request or a response has `no-transform` (RFC 9111 §5.2.1.6 and
/// §5.2.2.6).
pub(super) fn forbids_transforms(headers: &HeaderMap) -> bool {
    has_element(headers, &CACHE_CONTROL, b"no-transform")
}

/// Whether one of the lines of the header `name` lists `word`, in any case.
fn has_element(headers: &HeaderMap, name: &hyper::header::HeaderName, word: &[u8]) -> bool {
    let values = headers.get_all(name).into_iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(word))
}

fn has_media_type(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    MEDIA_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// Changes the headers of an answer to those of the same answer, encoded with `coding`.
///
/// - `Content-Length`: the new length is not known in advance.
/// - `ETag`: a strong tag names exactly these bytes, a weak one their meaning (RFC 9110 §8.8.1).
/// - `Vary`: a cache must not give the answer to clients that do not accept the coding (RFC 9110
///   §12.5.5).
/// - `Last-Modified` stays: the encoding does not change when the metrics were made (RFC 9110
///   §8.8.2).
pub(in crate::scrape) fn mark(headers: &mut HeaderMap, coding: ContentCoding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    if let Some(tag) = headers.get(ETAG) {
        match weak(tag) {
            Some(tag) => headers.insert(ETAG, tag),
            None => headers.remove(ETAG),
        };
    }
    let varies = [&b"*"[..], b"accept-encoding"];
    if !varies.into_iter().any(|word| has_element(headers, &VARY, word)) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The weak form of an entity tag.
fn weak(tag: &HeaderValue) -> Option<HeaderValue> {
    if tag.as_bytes().starts_with(b"W/") {
        return Some(tag.clone());
    }
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::{StatusCode, header::HeaderName};

    use super::*;
    use crate::upstream::Framing;

    const TEXT: (&str, &str) = ("content-type", "text/plain; version=0.0.4; charset=utf-8");

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    fn applies(status: u16, headers: &[(&'static str, &'static str)]) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        let (headers, framing) = (map(headers), Framing::Chunked);
        applies_to(&UpstreamHead { status, headers, framing, length_ignored: false })
    }

    #[test]
    fn metrics_are_compressed_and_nothing_else() {
        for media_type in [
            "text/plain",
            "text/plain; version=0.0.4",
            "text/plain;version=1.0.0; escaping=allow-utf-8",
            "TEXT/PLAIN ;charset=utf-8",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
             encoding=delimited",
        ] {
            assert!(applies(200, &[("content-type", media_type)]), "{media_type}");
        }
        for media_type in
            ["text/html", "text/plainer", "application/json", "application/octet-stream", ""]
        {
            assert!(!applies(200, &[("content-type", media_type)]), "{media_type}");
        }
        assert!(!applies(200, &[]), "no type");
    }

    #[test]
    fn answers_that_are_encoded_failed_or_must_not_be_transformed_are_passed_on_unchanged() {
        assert!(applies(200, &[TEXT]));
        assert!(applies(201, &[TEXT]));
        for status in [400, 404, 500, 503] {
            assert!(!applies(status, &[TEXT]), "{status}");
        }
        assert!(applies(200, &[TEXT, ("content-encoding", "identity")]));
        for encoding in ["gzip", "zstd", "br", "identity, gzip"] {
            assert!(!applies(200, &[TEXT, ("content-encoding", encoding)]), "{encoding}");
        }
        assert!(applies(200, &[TEXT, ("cache-control", "no-store, max-age=1")]));
        for control in ["no-transform", "no-store, No-Transform", "max-age=1,no-transform , x"] {
            assert!(!applies(200, &[TEXT, ("cache-control", control)]), "{control}");
        }
        let lines = [TEXT, ("cache-control", "no-store"), ("cache-control", "no-transform")];
        assert!(!applies(200, &lines));
    }

    #[test]
    fn the_head_of_a_compressed_answer_is_that_of_a_changed_representation() {
        let date = ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT");
        for (before, after) in [
            (&[][..], &[("vary", "Accept-Encoding")][..]),
            (&[("content-length", "7"), date], &[date, ("vary", "Accept-Encoding")]),
            (&[("etag", "\"e\"")], &[("etag", "W/\"e\""), ("vary", "Accept-Encoding")]),
            (&[("etag", "W/\"e\"")], &[("etag", "W/\"e\""), ("vary", "Accept-Encoding")]),
            (&[("vary", "accept, accept-encoding")], &[("vary", "accept, accept-encoding")]),
            (&[("vary", "*")], &[("vary", "*")]),
            (&[("vary", "Accept")], &[("vary", "Accept"), ("vary", "Accept-Encoding")]),
            (&[("content-encoding", "identity")], &[("vary", "Accept-Encoding")]),
        ] {
            for coding in [ContentCoding::Zstd, ContentCoding::Gzip] {
                let mut headers = map(before);
                mark(&mut headers, coding);
                let mut expected = map(after);
                expected.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
                assert_eq!(headers, expected, "{before:?}");
            }
        }
    }
}
