//! What a filter needs from an exporter: one of the text formats, without a content coding.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::{
    common::error::{Unfilterable, UpstreamError},
    scrape::{
        exposition::ExpositionFormat,
        integrity::{is_encoded, is_openmetrics, media_type},
    },
    upstream::{Replaced, UpstreamHead},
};

/// The types in `Accept` that stay. With a wildcard, exporters send a text format.
const TEXT_TYPES: [&[u8]; 4] = [b"text/plain", b"application/openmetrics-text", b"text/*", b"*/*"];

/// What an exporter is asked for if the scraper accepts no text format.
const ANY_TEXT: HeaderValue = HeaderValue::from_static("text/plain;version=0.0.4,*/*;q=0.1");

/// What to ask an exporter whose answer is filtered: the text formats among those that the scraper
/// accepts, in the scraper's order and with its parameters, and no content coding.
#[must_use]
pub fn ask_for_text(scraper: &HeaderMap) -> Replaced {
    let all = scraper.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(is_comma));
    let text: Vec<_> = all.map(<[u8]>::trim_ascii).filter(|range| is_text(range)).collect();
    let accept = HeaderValue::from_bytes(&text.join(&b", "[..])).ok();
    let accept = accept.filter(|accept| !accept.is_empty()).unwrap_or(ANY_TEXT);
    Replaced { accept: Some(accept), accept_encoding: Some(HeaderValue::from_static("identity")) }
}

fn is_comma(byte: &u8) -> bool {
    *byte == b','
}

fn is_text(range: &[u8]) -> bool {
    let media_type = media_type(range);
    TEXT_TYPES.iter().any(|text| media_type.eq_ignore_ascii_case(text))
}

/// The format of an answer that is filtered, or `None` if it is not filtered, because it is not a
/// success: Prometheus looks only at the status of such an answer.
///
/// An answer without a `Content-Type` is read as the text format, as Prometheus 2 does.
///
/// # Errors
///
/// The answer cannot be filtered.
pub fn format_of(head: &UpstreamHead) -> Result<Option<ExpositionFormat>, UpstreamError> {
    if !head.status.is_success() {
        return Ok(None);
    }
    if is_encoded(&head.headers) {
        return Err(UpstreamError::NotFilterable(Unfilterable::Encoded));
    }
    if is_openmetrics(&head.headers) {
        return Ok(Some(ExpositionFormat::OpenMetrics));
    }
    let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_none_or(|value| media_type(value).eq_ignore_ascii_case(b"text/plain")) {
        Ok(Some(ExpositionFormat::Text))
    } else {
        Err(UpstreamError::NotFilterable(Unfilterable::Type))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::{StatusCode, header::CONTENT_ENCODING};

    use super::*;
    use crate::upstream::Framing;

    #[test]
    fn the_exporter_is_asked_for_the_text_formats_that_the_scraper_accepts() {
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=delimited";
        let prometheus = format!(
            "{proto},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;\
             q=0.6,*/*;q=0.5"
        );
        for (accept, asked) in [
            (
                &[&*prometheus][..],
                "application/openmetrics-text;version=1.0.0;q=0.8, text/plain;version=0.0.4;\
                 q=0.6, */*;q=0.5",
            ),
            (&["Text/Plain"], "Text/Plain"),
            (&[proto, " text/plain ; q=0.1 ,"], "text/plain ; q=0.1"),
            (&["text/html, text/*;q=0.2"], "text/*;q=0.2"),
            (&[proto], "text/plain;version=0.0.4,*/*;q=0.1"),
            (&["application/*"], "text/plain;version=0.0.4,*/*;q=0.1"),
            (&["", ","], "text/plain;version=0.0.4,*/*;q=0.1"),
            (&[], "text/plain;version=0.0.4,*/*;q=0.1"),
        ] {
            let headers = accept.iter().map(|value| (ACCEPT, value.parse().unwrap())).collect();
            let replaced = ask_for_text(&headers);
            assert_eq!(replaced.accept.unwrap(), asked);
            assert_eq!(replaced.accept_encoding.unwrap(), "identity");
        }
    }

    fn judged(
        status: StatusCode,
        content_type: Option<&str>,
        coding: Option<&str>,
    ) -> Result<Option<ExpositionFormat>, Unfilterable> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(CONTENT_TYPE, content_type), (CONTENT_ENCODING, coding)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let head =
            UpstreamHead { status, headers, framing: Framing::Chunked, length_ignored: false };
        format_of(&head).map_err(|error| {
            let UpstreamError::NotFilterable(why) = error else { panic!("{error}") };
            why
        })
    }

    #[test]
    fn only_a_text_format_without_a_content_coding_is_filtered() {
        use ExpositionFormat::{OpenMetrics, Text};
        let ok = StatusCode::OK;
        for (content_type, coding, expected) in [
            (Some("text/plain; version=0.0.4; charset=utf-8"), None, Ok(Text)),
            (Some("TEXT/PLAIN;version=1.0.0"), Some("identity"), Ok(Text)),
            (None, None, Ok(Text)),
            (Some("application/openmetrics-text; version=1.0.0"), None, Ok(OpenMetrics)),
            (Some("text/plain"), Some("gzip"), Err(Unfilterable::Encoded)),
            (Some("text/plain"), Some("x"), Err(Unfilterable::Encoded)),
            (Some("application/vnd.google.protobuf"), None, Err(Unfilterable::Type)),
            (Some("text/html"), None, Err(Unfilterable::Type)),
            (Some(""), None, Err(Unfilterable::Type)),
        ] {
            assert_eq!(judged(ok, content_type, coding), expected.map(Some), "{content_type:?}");
        }
    }

    #[test]
    fn the_error_text_of_an_exporter_is_not_filtered() {
        for status in [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            for content_type in [Some("text/plain"), Some("text/html"), None] {
                assert_eq!(judged(status, content_type, Some("gzip")), Ok(None));
            }
        }
    }
}
