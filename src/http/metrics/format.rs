//! The two formats of `/metrics`, and how the scraper's `Accept` header selects one.

use hyper::header::{ACCEPT, HeaderMap};

/// A format for the text of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4. Every scraper can read it.
    Text,
    /// OpenMetrics, version 1.0.0. It has units, and a marker at its end.
    OpenMetrics,
}

impl Format {
    /// The format that the scraper prefers by `Accept` (RFC 9110 §12.5.1). OpenMetrics must be
    /// requested by name. In all other cases the result is the text format.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Self {
        let (mut openmetrics, mut text) = (0.0_f32, 0.0_f32);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let parameters = || parts.clone().filter_map(|part| part.split_once('='));
            let named =
                |name: &str| parameters().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            let quality = named("q").map_or(Some(1.0), |(_, value)| value.trim().parse().ok());
            let quality = quality.filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(0.0);
            let version = named("version").map(|(_, value)| value.trim_matches([' ', '"']));
            if name.eq_ignore_ascii_case("application/openmetrics-text") {
                if matches!(version, None | Some("1.0.0" | "0.0.1")) {
                    openmetrics = openmetrics.max(quality);
                }
            } else if name.eq_ignore_ascii_case("text/plain")
                && matches!(version, None | Some("0.0.4"))
            {
                text = text.max(quality);
            }
        }
        if openmetrics > 0.0 && openmetrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of the format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn openmetrics_is_sent_only_if_the_scraper_prefers_it() {
        for (accept, expected) in [
            // Prometheus 2.42 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("Application/OpenMetrics-Text; Version=1.0.0 ; Q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/plain;q=0.5, application/openmetrics-text; version=\"1.0.0\"",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.5,text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=2", Format::Text),
            ("application/openmetrics-text;q=NaN", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            (",;=;q,=", Format::Text),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(Format::accepted(&headers), expected, "{accept}");
        }
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn accept_may_have_several_lines() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, "text/plain;q=0.5".parse().unwrap());
        headers.append(ACCEPT, "application/openmetrics-text".parse().unwrap());
        assert_eq!(Format::accepted(&headers), Format::OpenMetrics);
    }
}
