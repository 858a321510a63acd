//! Request lines and header fields.

use std::fmt::Write as _;

use scrapegate_harness::client::Cut;

use crate::{Setup, assert_canonical, scrape_with};

/// H07. `lingering.rs` tests how little of the head is read.
#[test]
fn a_head_larger_than_16_kib_is_refused() {
    let setup = Setup::new();
    for length in [17 * 1024, 1024 * 1024] {
        let lines = format!("X-Marker: {}\r\n", "a".repeat(length));
        setup.assert_refused(scrape_with(&lines), 431, false);
    }
    // A head just below the limit is accepted.
    setup.assert_scraped(scrape_with(&format!("X: {}\r\n", "a".repeat(15 * 1024))), "/metrics");
}

/// H08.
#[test]
fn more_than_a_hundred_headers_are_refused() {
    let setup = Setup::new();
    let lines = |count: usize| {
        (0..count).fold(String::new(), |mut lines, number| {
            let _ = write!(lines, "X-{number}: a\r\n");
            lines
        })
    };
    // `Host` is the hundredth header.
    setup.assert_scraped(scrape_with(&lines(99)), "/metrics");
    setup.assert_refused(scrape_with(&lines(100)), 431, false);
    setup.assert_refused(scrape_with(&lines(10_000)), 431, false);
}

/// H09.
#[test]
fn a_target_is_as_long_as_the_head_allows() {
    let setup = Setup::new();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let filler = "a".repeat(8 * 1024);
    // These parameters belong to the scraper, so they are forwarded.
    setup.assert_scraped(
        get(&format!("/prometheus?exporter=e&x={filler}")),
        &format!("/metrics?x={filler}"),
    );
    setup.assert_refused(get(&format!("/marker{filler}")), 404, true);
    let answer = setup.ask(get(&format!("/prometheus?exporter=e&x={}", "a".repeat(65_535))));
    assert!([414, 431].contains(&answer.head.status), "{:?}", answer.head);
    assert!(!answer.kept && answer.upstream.is_empty());
}

/// H10, H11.
#[test]
fn exactly_one_host_header_is_required() {
    let setup = Setup::new();
    for hosts in [
        "",
        "Host: h\r\nHost: h\r\n",
        "Host: h\r\nHost: marker\r\n",
        "Host:\r\n",
        "Host: marker/x\r\n",
        "Host: marker@h\r\n",
        "Host: a marker\r\n",
        "Host: h:1:2\r\n",
        "Host: h:marker\r\n",
        "Host: h:+1\r\n",
        "Host: h:65536\r\n",
        "Host: h, marker\r\n",
        "Host: \u{e4}marker\r\n",
    ] {
        let request = format!("GET /prometheus?exporter=e HTTP/1.1\r\n{hosts}\r\n");
        setup.assert_refused(request, 400, false);
    }
}

/// H13.
#[test]
fn an_absolute_target_must_match_host_and_does_not_affect_routing() {
    let setup = Setup::new();
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    setup.assert_scraped(get("http://h:1/prometheus?exporter=e", "h:1"), "/metrics");
    setup.assert_scraped(get("https://h/prometheus?exporter=e&a=b", "h"), "/metrics?a=b");
    for (target, host) in [
        ("http://marker/prometheus?exporter=e", "h"),
        ("http://h:2/prometheus?exporter=e", "h:1"),
        ("http://marker@h/prometheus?exporter=e", "h"),
    ] {
        setup.assert_refused(get(target, host), 400, false);
    }
    let exporter = setup.exporter.address();
    let request = get(&format!("http://{exporter}/elsewhere"), &exporter.to_string());
    setup.assert_refused(request, 404, true);
}

/// H15, H16.
#[test]
fn other_methods_are_refused_with_an_allow_header() {
    let setup = Setup::new();
    let mut request_lines: Vec<String> = [
        "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "get", "Get", "GETT", "MARKER",
        "QUERY",
    ]
    .map(|method| format!("{method} /prometheus?exporter=e"))
    .into();
    request_lines.push("OPTIONS *".to_owned());
    request_lines.push("CONNECT marker:443".to_owned());
    request_lines.push(format!("{} /prometheus", "M".repeat(4096)));
    for line in request_lines {
        let head = setup.assert_refused(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"), 405, false);
        assert_eq!(head.header("allow"), Some("GET, HEAD"), "{line}");
    }
    for method in ["G@T", "G(T", "", "GE\tT", "\u{c4}"] {
        let request = format!("{method} /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n");
        setup.assert_refused(request, 400, false);
    }
}

/// H31.
#[test]
fn only_http_1_1_is_accepted_because_http_1_0_cannot_show_truncation() {
    let setup = Setup::new();
    for lines in ["", "Host: h\r\n", "Connection: keep-alive\r\nHost: h\r\n"] {
        let request = format!("GET /prometheus?exporter=e HTTP/1.0\r\n{lines}\r\n");
        let mut client = setup.connect();
        client.send(request).expect("sent");
        // hyper answers in the version of the request. The strict scraper does not read HTTP/1.0.
        let (answer, end) = client.read_to_end();
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.0 505 "), "{answer}");
        assert_eq!(end, Cut::CloseNotify);
        drop(client);
        setup.refused(1);
    }
    assert_eq!(setup.exporter.connections(), 0);
    for version in ["HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1x", "http/1.1", "HTTP/1.", ""] {
        let request = format!("GET /prometheus?exporter=e {version}\r\nHost: h\r\n\r\n");
        setup.assert_refused(request, 400, false);
    }
    // An HTTP/2 client could not read a response of the proxy, so it gets none.
    let mut client = setup.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    assert_eq!(client.read_to_end().0, b"");
    setup.refused(1);
}

/// H17.
#[test]
fn an_upgrade_is_ignored() {
    let setup = Setup::new();
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: h2c\r\n",
        "Connection: upgrade\r\n",
    ] {
        let answer = setup.ask(scrape_with(lines));
        assert_eq!((answer.head.status, answer.kept), (200, true), "{answer:?}");
        assert_eq!(answer.head.header("upgrade"), None);
        assert_canonical(&setup.exporter, &answer.upstream[0], "/metrics");
    }
}

/// H26.
#[test]
fn invalid_bytes_in_a_head_are_refused() {
    let setup = Setup::new();
    for lines in [
        &b"X: a\rmarker: b\r\n"[..],
        b"X: a\0b\r\n",
        b"X: a\r\n folded\r\n",
        b"X: a\r\n\tfolded\r\n",
        b"X : a\r\n",
        b"X\t: a\r\n",
        b" X: a\r\n",
        b": a\r\n",
        b"X\r\n",
        b"X\x80: a\r\n",
        b"X\0: a\r\n",
        b"X(: a\r\n",
        b"X: a\x1b\r\n",
        b"X: a\x7f\r\n",
        b"\rX: a\r\n",
    ] {
        let request =
            [b"GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n", lines, b"\r\n"].concat();
        setup.assert_refused(request, 400, false);
    }
    for line in [
        &b"GET  /prometheus?exporter=e HTTP/1.1"[..],
        b"GET /prometheus?exporter=e  HTTP/1.1",
        b"GET\t/prometheus?exporter=e HTTP/1.1",
        b"GET /prometheus?exporter=e HTTP/1.1 x",
        b"GET /prometheus?exporter=e&x=\0 HTTP/1.1",
        b"GET /prometheus?exporter=e&x=\x1b HTTP/1.1",
        b"GET prometheus?exporter=e HTTP/1.1",
        b"GET",
    ] {
        setup.assert_refused([line, b"\r\nHost: h\r\n\r\n"].concat(), 400, false);
    }
}

/// H26.
#[test]
fn bare_line_feeds_smuggle_nothing() {
    let setup = Setup::new();
    for request in [
        "GET /prometheus?exporter=e HTTP/1.1\nHost: h\n\n",
        "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\nX: a\r\n\r\n",
        "\r\nGET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let answer = setup.ask(request);
        match (answer.head.status, &answer.upstream[..]) {
            (200, [only]) => assert_canonical(&setup.exporter, only, "/metrics"),
            (400, []) => assert!(!answer.kept),
            (..) => panic!("{request:?}: {answer:?}"),
        }
    }
}

/// The refusals that are logged and counted are those that `Setup` expects: none.
#[test]
fn a_client_that_leaves_within_a_head_is_not_refused() {
    let setup = Setup::new();
    for begin in ["G", "GET /prometheus", "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n"] {
        let mut client = setup.connect();
        client.send(begin).expect("sent");
    }
}
