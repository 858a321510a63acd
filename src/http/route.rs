//! Maps a request head to a [`Route`] or a [`Refusal`]. Pure: no I/O and no configuration.

use std::str;

use hyper::{
    Method, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, TRANSFER_ENCODING},
    http::{request, uri::Authority},
};
use percent_encoding::percent_decode_str;

use crate::{
    common::{
        error::{EnrolError, Methods, Refusal},
        exporter::ExporterName,
    },
    http::discovery::{METRICS_PATH, SD_PATH},
};

/// The path of the enrollment API. Only this path accepts `POST` with a body.
pub const ENROLMENT: &str = "/autotls";

/// Limit for such a body, in bytes. A bundle of ten RSA-4096 certificates has 20 KiB.
pub const MAX_BODY: u64 = 64 * 1024;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/prometheus`: the names of the exporters, as JSON.
    List,
    /// `/prometheus/sd`: the exporters as targets for Prometheus' HTTP service discovery.
    Discovery,
    /// `/prometheus?exporter=NAME`: a scrape.
    Scrape {
        /// The name of the exporter, decoded.
        exporter: ExporterName,
        /// The other query parameters unchanged, joined by `&`.
        forwarded: String,
    },
    /// `/metrics`: scrapegate's own metrics.
    Metrics,
    /// `/`: the status page.
    Status,
    /// `/autotls`: enrollment of this host.
    Enrolment {
        /// The decoded `domain` parameter: the name for the certificate. `None` if it is missing or
        /// empty.
        domain: Option<String>,
    },
    /// `/-/healthy`: answers 200 while the process runs.
    Healthy,
    /// `/-/ready`: answers 200 until the shutdown begins, then 503.
    Ready,
    /// `/-/reload`: reloads the configuration. Only for `POST`.
    Reload,
}

/// Checks the rules of HTTP and of this proxy that do not depend on the client or the
/// configuration. Returns the authority in the `Host` header.
///
/// Only a `POST` to [`ENROLMENT`] may have a body. Its length must be known and at most
/// [`MAX_BODY`].
///
/// # Errors
///
/// The first rule that the request breaks. The response to each of these errors closes the
/// connection.
pub fn well_formed(head: &request::Parts) -> Result<Authority, Refusal> {
    if head.version != Version::HTTP_11 {
        return Err(Refusal::Version);
    }
    if head.method == Method::POST && head.uri.path() == ENROLMENT {
        check_length(&head.headers)?;
    } else if has_body(&head.headers) {
        return Err(Refusal::RequestBody);
    }
    // `OPTIONS *` and `CONNECT host:port` have no path. Methods for a path are checked later, after
    // it is known whether the path exists.
    let methods = Methods::GetAndHead;
    if !head.uri.path().starts_with('/') && !methods.contain(&head.method) {
        return Err(Refusal::Method(methods));
    }
    host(&head.uri, &head.headers)
}

/// Finds the route for the target of a request.
///
/// Paths are compared byte for byte: `/prometheus/` and `/%70rometheus` are unknown.
///
/// # Errors
///
/// The path is unknown, or the query is malformed. The response keeps the connection open.
pub fn route(uri: &Uri) -> Result<Route, Refusal> {
    match uri.path() {
        METRICS_PATH => prometheus(uri.query().unwrap_or_default()),
        SD_PATH => of_all_exporters(uri, Route::Discovery),
        "/" => Ok(Route::Status),
        "/metrics" => of_all_exporters(uri, Route::Metrics),
        ENROLMENT => autotls(uri.query().unwrap_or_default()),
        "/-/healthy" => Ok(Route::Healthy),
        "/-/ready" => Ok(Route::Ready),
        "/-/reload" => Ok(Route::Reload),
        path if has_encoded_query(path) => Err(Refusal::EncodedQuery),
        _ => Err(Refusal::UnknownPath),
    }
}

/// Accepts a path that does not belong to a single exporter. An `exporter` parameter is refused
/// there, because it shows a mistake: a scraper without `metrics_path` would store our own metrics
/// as those of its exporter.
///
/// Other parameters are ignored, even if they cannot be decoded.
fn of_all_exporters(uri: &Uri, route: Route) -> Result<Route, Refusal> {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let names_exporter = pairs.any(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        decode(key).is_some_and(|key| key == b"exporter")
    });
    if names_exporter { Err(Refusal::StrayExporterParameter) } else { Ok(route) }
}

/// Whether the path ends with an encoded query. Prometheus encodes the `?` if a query is put into
/// `metrics_path`.
fn has_encoded_query(path: &str) -> bool {
    let end = path.find("%3F").or_else(|| path.find("%3f"));
    end.is_some_and(|end| [METRICS_PATH, SD_PATH, "/metrics"].contains(&&path[..end]))
}

/// Whether the head has any sign of a body. All of them are refused, so that two parsers cannot
/// disagree about the end of the request (RFC 9112 §6.3, §11.2). hyper accepts `Content-Length`
/// together with `Transfer-Encoding`.
fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length_is_zero = match (lengths.next(), lengths.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes() == b"0",
        (Some(_), Some(_)) => false,
    };
    !length_is_zero || headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(EXPECT)
}

/// Requires one plain `Content-Length`, and no other header that could define the end of the body.
/// A client may wait for 100-continue (RFC 9110 §10.1.1): hyper sends it when the body is read.
fn check_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let expects_else = headers
        .get_all(EXPECT)
        .iter()
        .any(|it| !it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if headers.contains_key(TRANSFER_ENCODING) || expects_else {
        return Err(Refusal::RequestBody);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Err(EnrolError::NoLength.into()),
        (Some(only), None) => {
            only.to_str().ok().filter(|it| it.bytes().all(|b| b.is_ascii_digit()))
        }
        (Some(_), Some(_)) => None,
    };
    match length.ok_or(Refusal::RequestBody)?.parse() {
        Ok(0..=MAX_BODY) => Ok(()),
        Ok(_) | Err(_) => Err(EnrolError::TooLarge(MAX_BODY).into()),
    }
}

/// Requires exactly one valid `Host` (RFC 9112 §3.2) that equals the authority of an absolute
/// target.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::BadHost);
    };
    let authority: Authority = str::from_utf8(host.as_bytes())
        .ok()
        .and_then(|host| host.parse().ok())
        .filter(|authority: &Authority| {
            !authority.as_str().contains('@') && port_is_valid(authority)
        })
        .ok_or(Refusal::BadHost)?;
    match uri.authority() {
        Some(target) if *target != authority => Err(Refusal::BadHost),
        Some(_) | None => Ok(authority),
    }
}

/// The `http` crate accepts any port. RFC 3986 §3.2.3 requires digits, or nothing after the colon.
fn port_is_valid(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("" | ":") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        }),
        None => false,
    }
}

fn prometheus(query: &str) -> Result<Route, Refusal> {
    let mut exporter = None;
    let mut forwarded = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decode(key).ok_or(Refusal::Query)?;
        if key == b"exporter" {
            if exporter.is_some() {
                return Err(Refusal::ExporterParameter);
            }
            exporter = Some(exporter_name(value)?);
        } else {
            decode(value).ok_or(Refusal::Query)?;
            if !forwarded.is_empty() {
                forwarded.push('&');
            }
            forwarded.push_str(pair);
        }
    }
    Ok(match exporter {
        Some(exporter) => Route::Scrape { exporter, forwarded },
        None => Route::List,
    })
}

/// Parses the query of `/autotls`. Other parameters are ignored, as in the openITCOCKPIT agent.
fn autotls(query: &str) -> Result<Route, Refusal> {
    let mut domain = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key).ok_or(Refusal::Query)?, decode(value));
        let value = value.ok_or(Refusal::Query)?;
        if key == b"domain" {
            let value = String::from_utf8(value).map_err(|_| EnrolError::Domain)?;
            if domain.replace(value).is_some() {
                return Err(EnrolError::Domain.into());
            }
        }
    }
    // The agent treats an empty `domain` like a missing one.
    Ok(Route::Enrolment { domain: domain.filter(|domain| !domain.is_empty()) })
}

fn exporter_name(value: &str) -> Result<ExporterName, Refusal> {
    let bytes = decode(value).ok_or(Refusal::ExporterParameter)?;
    let name = str::from_utf8(&bytes).map_err(|_| Refusal::ExporterParameter)?;
    ExporterName::new(name).map_err(|_| Refusal::ExporterParameter)
}

/// Decodes `application/x-www-form-urlencoded` once: `+` is a space, `%XX` a byte. Returns `None`
/// if a `%` is not followed by two hexadecimal digits.
fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let escapes_are_whole = bytes.iter().enumerate().all(|(at, &byte)| {
        byte != b'%'
            || bytes
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    // Replacing `+` first is safe, because a decoded `%2B` does not exist yet.
    escapes_are_whole.then(|| percent_decode_str(&text.replace('+', " ")).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::Request;

    use super::*;

    fn outcome(target: &str) -> Result<Route, &'static str> {
        outcome_of(Request::get(target).header(HOST, "h:3333"))
    }

    fn outcome_of(request: request::Builder) -> Result<Route, &'static str> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        well_formed(&head).and_then(|_| route(&head.uri)).map_err(|refusal| refusal.info().label)
    }

    fn scrape(name: &str, forwarded: &str) -> Result<Route, &'static str> {
        Ok(Route::Scrape {
            exporter: ExporterName::new(name).unwrap(),
            forwarded: forwarded.to_owned(),
        })
    }

    #[test]
    fn the_exporter_parameter_is_removed_and_the_rest_is_forwarded_unchanged() {
        for (query, name, forwarded) in [
            ("exporter=node", "node", ""),
            (
                "exporter=node&collect[]=cpu&collect[]=loadavg",
                "node",
                "collect[]=cpu&collect[]=loadavg",
            ),
            (
                "target=http://x&exporter=b%6Cackbox&module=a%20b",
                "blackbox",
                "target=http://x&module=a%20b",
            ),
            ("e%78porter=node", "node", ""),
            ("exporter=a+b%2Bc", "a b+c", ""),
            ("exporter=n%2525", "n%25", ""),
            ("exporter=%C3%A4", "ä", ""),
            ("&&exporter=n&&x&", "n", "x"),
            ("exporter=a=b", "a=b", ""),
        ] {
            let target = format!("/prometheus?{query}");
            assert_eq!(outcome(&target), scrape(name, forwarded), "{query}");
        }
        assert_eq!(outcome("/prometheus"), Ok(Route::List));
        assert_eq!(outcome("/prometheus?"), Ok(Route::List));
        assert_eq!(outcome("/prometheus?other=1"), Ok(Route::List));
        assert_eq!(outcome("/prometheus/sd?x=1"), Ok(Route::Discovery));
        assert_eq!(outcome("/metrics?x=1"), Ok(Route::Metrics));
    }

    #[test]
    fn f18_an_exporter_parameter_at_a_path_for_all_exporters_is_refused() {
        for path in ["/metrics", "/prometheus/sd"] {
            for query in [
                "exporter=x",
                "exporter",
                "exporter=",
                "x=1&exporter=x",
                "%65xporter=x",
                "%g&exporter=x",
            ] {
                let target = format!("{path}?{query}");
                assert_eq!(outcome(&target), Err("exporter_parameter"), "{target}");
            }
            for query in ["", "exporters=x", "Exporter=x", "x=exporter", "%g", "name[]=exporter"] {
                assert!(outcome(&format!("{path}?{query}")).is_ok(), "{path}?{query}");
            }
        }
    }

    #[test]
    fn f32_a_percent_encoded_query_in_the_path_has_its_own_error() {
        for path in ["/prometheus%3Fexporter=x", "/prometheus%3fexporter=x", "/metrics%3Fx"] {
            assert_eq!(outcome(path), Err("encoded_query"), "{path}");
        }
        for path in ["/prometheus%3", "/%3Fexporter=x", "/other%3Fexporter=x", "/prometheus/%3F"] {
            assert_eq!(outcome(path), Err("unknown_path"), "{path}");
        }
    }

    #[test]
    fn a_bad_exporter_parameter_is_refused() {
        let long = format!("exporter={}", "x".repeat(129));
        for query in [
            "exporter=",
            "exporter",
            "exporter=a&exporter=a",
            "exporter=a&e%78porter=b",
            "exporter=%",
            "exporter=%4",
            "exporter=%zz",
            "exporter=%ff",
            "exporter=n%00",
            "exporter=n%0d%0aX:1",
            "exporter=%1b[31m",
            long.as_str(),
        ] {
            let target = format!("/prometheus?{query}");
            assert_eq!(outcome(&target), Err("exporter_parameter"), "{query}");
        }
        assert_eq!(outcome("/prometheus?exporter=a&x=%"), Err("query"));
        assert_eq!(outcome("/prometheus?exporter=a&%g0=1"), Err("query"));
    }

    #[test]
    fn paths_match_byte_for_byte() {
        assert_eq!(outcome("/"), Ok(Route::Status));
        assert_eq!(outcome("/-/healthy"), Ok(Route::Healthy));
        assert_eq!(outcome("/-/ready"), Ok(Route::Ready));
        for path in [
            "//prometheus",
            "/prometheus/",
            "/Prometheus",
            "/%70rometheus",
            "/prometheus/../x",
            "/prometheus/sd/",
            "/prometheus;a",
            "/prometheus%00",
            "/metrics/",
            "//metrics",
            "/-/healthy/",
            "/-/reload/",
        ] {
            assert_eq!(outcome(path), Err("unknown_path"), "{path}");
        }
    }

    #[test]
    fn every_sign_of_a_body_is_refused() {
        for (name, value, expected) in [
            ("content-length", "0", Ok(Route::List)),
            ("content-length", "5", Err("request_body")),
            ("content-length", "00", Err("request_body")),
            ("content-length", "0, 0", Err("request_body")),
            ("transfer-encoding", "chunked", Err("request_body")),
            ("transfer-encoding", "identity", Err("request_body")),
            ("expect", "100-continue", Err("request_body")),
        ] {
            let request = Request::get("/prometheus").header(HOST, "h").header(name, value);
            assert_eq!(outcome_of(request), expected, "{name}: {value}");
        }
        let twice = Request::get("/prometheus")
            .header(HOST, "h")
            .header(CONTENT_LENGTH, "0")
            .header(CONTENT_LENGTH, "0");
        assert_eq!(outcome_of(twice), Err("request_body"));
    }

    #[test]
    fn only_enrolment_accepts_a_body_with_one_small_length() {
        let enrolment =
            |domain: Option<&str>| Ok(Route::Enrolment { domain: domain.map(str::to_owned) });
        let post = || Request::post(ENROLMENT).header(HOST, "h");
        assert_eq!(outcome_of(post()), Err("enrol_no_length"));
        for (name, value, expected) in [
            ("content-length", "0", enrolment(None)),
            ("content-length", "65536", enrolment(None)),
            ("content-length", "65537", Err("enrol_too_large")),
            ("content-length", "99999999999999999999", Err("enrol_too_large")),
            ("content-length", "+1", Err("request_body")),
            ("content-length", "1, 1", Err("request_body")),
            ("transfer-encoding", "chunked", Err("request_body")),
            ("expect", "100-continue", Err("enrol_no_length")),
            ("expect", "something else", Err("request_body")),
        ] {
            assert_eq!(outcome_of(post().header(name, value)), expected, "{name}: {value}");
            let other = Request::post("/prometheus").header(HOST, "h").header(name, value);
            let expected = if value == "0" { Ok(Route::List) } else { Err("request_body") };
            assert_eq!(outcome_of(other), expected, "{name}: {value}");
        }
        let both = post().header(CONTENT_LENGTH, "1").header(TRANSFER_ENCODING, "chunked");
        assert_eq!(outcome_of(both), Err("request_body"));
        let twice = post().header(CONTENT_LENGTH, "1").header(CONTENT_LENGTH, "1");
        assert_eq!(outcome_of(twice), Err("request_body"));
        for (target, expected) in [
            ("/autotls", enrolment(None)),
            ("/autotls?domain=", enrolment(None)),
            ("/autotls?x=1&domain=a%2Eb", enrolment(Some("a.b"))),
            ("/autotls?domain=a&domain=b", Err("enrol_domain")),
            ("/autotls?domain=%ff", Err("enrol_domain")),
            ("/autotls?domain=%f", Err("query")),
            ("/autotls/", Err("unknown_path")),
        ] {
            assert_eq!(outcome(target), expected, "{target}");
        }
    }

    #[test]
    fn exactly_one_host_is_required_and_must_equal_the_authority_of_an_absolute_target() {
        let get = |target: &str| Request::get(target.to_owned());
        assert_eq!(outcome_of(get("/prometheus")), Err("bad_host"));
        assert_eq!(
            outcome_of(get("/prometheus").header(HOST, "a").header(HOST, "a")),
            Err("bad_host")
        );
        for valid in ["h", "h:", "h:65535", "[::1]", "[::1]:3333", "192.0.2.1:1"] {
            let request = get("/prometheus").header(HOST, valid);
            assert_eq!(outcome_of(request), Ok(Route::List), "{valid}");
        }
        for bad in
            ["", "a b", "a/b", "user@a", "a:b:c", "a:b", "a:+1", "a:65536", "[::1]:x", "[::1]1"]
        {
            assert_eq!(outcome_of(get("/prometheus").header(HOST, bad)), Err("bad_host"), "{bad}");
        }
        let absolute = "http://h:1/prometheus";
        assert_eq!(outcome_of(get(absolute).header(HOST, "h:1")), Ok(Route::List));
        assert_eq!(outcome_of(get(absolute).header(HOST, "h:2")), Err("bad_host"));
    }

    #[test]
    fn the_version_is_checked_first_and_a_path_before_its_methods() {
        let old = Request::get("/prometheus").version(Version::HTTP_10);
        assert_eq!(outcome_of(old), Err("http_version"));
        for method in ["HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "get", "PATCH"] {
            let on = |target: &str| Request::builder().method(method).uri(target).header(HOST, "h");
            assert_eq!(outcome_of(on("/prometheus?exporter=n")), scrape("n", ""), "{method}");
            assert_eq!(outcome_of(on("/-/reload")), Ok(Route::Reload), "{method}");
            assert_eq!(outcome_of(on("/nothing")), Err("unknown_path"), "{method}");
        }
        for (method, target) in [("OPTIONS", "*"), ("CONNECT", "h:443")] {
            let request = Request::builder().method(method).uri(target).header(HOST, "h");
            assert_eq!(outcome_of(request), Err("method"), "{method}");
        }
    }
}
