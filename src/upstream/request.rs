//! Builds the request to an exporter, from the configuration and a few parts of the scraper's
//! request.

use std::time::Duration;

use hyper::{
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue,
        USER_AGENT,
    },
    http::request::Parts,
};

use crate::common::{deadline::SCRAPE_TIMEOUT_HEADER, exporter::Exporter};

/// The headers of the scraper that are forwarded.
const FORWARDED: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, USER_AGENT];

/// What to ask an exporter.
#[derive(Clone, Copy, Debug)]
pub struct ExporterRequest<'a> {
    /// The exporter.
    pub exporter: &'a Exporter,
    /// The scraper's request. Its method and a few headers are forwarded.
    pub scraper: &'a Parts,
    /// The part of the scraper's query that is forwarded, if `forward-params` allows it.
    pub forwarded: &'a str,
    /// Headers that the exporter gets instead of the scraper's.
    pub replaced: &'a Replaced,
}

/// Headers that the exporter gets instead of the scraper's. By default none.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    /// `Accept`.
    pub accept: Option<HeaderValue>,
    /// `Accept-Encoding`.
    pub accept_encoding: Option<HeaderValue>,
}

impl Replaced {
    /// What replaces the scraper's header `name`.
    fn of(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let Self { accept, accept_encoding } = self;
        match *name {
            ACCEPT => accept.as_ref(),
            ACCEPT_ENCODING => accept_encoding.as_ref(),
            _ => None,
        }
    }
}

impl ExporterRequest<'_> {
    /// The bytes of the request. `left` is the remaining time of the scrape.
    ///
    /// All parts were validated where they entered the program, so none of them contains a line
    /// end.
    pub(super) fn bytes(&self, left: Duration) -> Vec<u8> {
        let &Self { exporter, scraper, forwarded, replaced } = self;
        let path = exporter.path.as_str();
        let mut request = Vec::with_capacity(512);
        let mut write =
            |parts: &[&[u8]]| parts.iter().for_each(|part| request.extend_from_slice(part));
        write(&[scraper.method.as_str().as_bytes(), b" ", path.as_bytes()]);
        if exporter.rules.forward_params && !forwarded.is_empty() {
            let separator = if path.contains('?') { "&" } else { "?" };
            write(&[separator.as_bytes(), forwarded.as_bytes()]);
        }
        write(&[b" HTTP/1.1\r\n"]);
        let mut field = |name: &HeaderName, value: &[u8]| {
            write(&[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
        };
        field(&HOST, exporter.target.authority().as_bytes());
        field(&CONNECTION, b"close");
        field(
            &HeaderName::from_static(SCRAPE_TIMEOUT_HEADER),
            format!("{:.6}", left.as_secs_f64()).as_bytes(),
        );
        for name in FORWARDED {
            if let Some(value) = replaced.of(&name) {
                field(&name, value.as_bytes());
                continue;
            }
            for value in scraper.headers.get_all(&name) {
                field(&name, value.as_bytes());
            }
        }
        if let Some(authorization) = &exporter.authorization {
            field(&AUTHORIZATION, authorization.header_value().as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::exporters::fixture;

    #[test]
    fn replaced_headers_are_sent_instead_of_those_of_the_scraper() {
        let request = hyper::Request::get("/prometheus")
            .header(ACCEPT, "text/plain")
            .header(ACCEPT_ENCODING, "gzip");
        let scraper = request.body(()).expect("a request").into_parts().0;
        let exporter = fixture::exporter();
        let sent = |replaced| {
            let request = ExporterRequest {
                exporter: &exporter,
                scraper: &scraper,
                forwarded: "",
                replaced: &replaced,
            };
            let bytes = request.bytes(Duration::from_secs(1));
            let text = String::from_utf8(bytes).expect("ASCII");
            let wanted = |line: &&str| line.starts_with("accept");
            text.lines().filter(wanted).map(str::to_owned).collect::<Vec<_>>()
        };
        let own = ["accept: text/plain", "accept-encoding: gzip"];
        assert_eq!(sent(Replaced::default()), own);
        let accept = Some(HeaderValue::from_static("a/b"));
        assert_eq!(sent(Replaced { accept, ..Replaced::default() }), ["accept: a/b", own[1]]);
        let accept_encoding = Some(HeaderValue::from_static("identity"));
        let replaced = Replaced { accept_encoding, ..Replaced::default() };
        assert_eq!(sent(replaced), [own[0], "accept-encoding: identity"]);
    }
}
