//! The parts of a request that reach the exporter: three headers, and the other parameters.

use crate::{Setup, assert_canonical, scrape_with};

/// H43.
#[test]
fn hop_by_hop_headers_and_those_they_name_are_not_forwarded() {
    let setup = Setup::new();
    for lines in [
        "Connection: host, accept\r\n",
        "Connection: keep-alive, X-Prometheus-Scrape-Timeout-Seconds\r\n",
        "TE: trailers\r\n",
        "TE: gzip;q=0.5, trailers\r\nConnection: TE\r\n",
        "Keep-Alive: timeout=5, max=1000\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "Trailer: X-Marker\r\n",
        "Proxy-Authorization: Basic bWFya2Vy\r\n",
    ] {
        let answer = setup.ask(scrape_with(lines));
        assert_eq!((answer.head.status, answer.kept), (200, true), "{lines:?}: {answer:?}");
        assert_canonical(&setup.exporter, &answer.upstream[0], "/metrics");
    }
}

/// H44.
#[test]
fn credentials_conditions_and_origins_are_not_forwarded() {
    let setup = Setup::new();
    for lines in [
        "Authorization: Basic bWFya2VyOm1hcmtlcg==\r\n",
        "Cookie: marker=1\r\n",
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: marker\r\nX-Real-IP: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1;host=marker\r\n",
        "Range: bytes=0-1\r\n",
        "If-None-Match: \"marker\"\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "Referer: http://marker/\r\nOrigin: http://marker\r\n",
        "X-Marker: 1\r\nContent-Type: marker/marker\r\nMax-Forwards: 0\r\n",
    ] {
        let answer = setup.ask(scrape_with(lines));
        assert_eq!((answer.head.status, answer.kept), (200, true), "{lines:?}: {answer:?}");
        assert_canonical(&setup.exporter, &answer.upstream[0], "/metrics");
    }
}

#[test]
fn accept_headers_and_user_agent_are_forwarded() {
    let setup = Setup::new();
    let answer = setup.ask(scrape_with(
        "User-Agent: Prometheus/3.5\r\nAccept: text/plain;version=0.0.4\r\nAccept-Encoding: gzip\r\n",
    ));
    let lines: Vec<&str> = answer.upstream[0].split("\r\n").collect();
    for line in
        ["user-agent: Prometheus/3.5", "accept: text/plain;version=0.0.4", "accept-encoding: gzip"]
    {
        assert_eq!(lines.iter().filter(|it| **it == line).count(), 1, "{lines:?}");
    }
}

/// H41.
#[test]
fn other_parameters_are_passed_on_unchanged() {
    let setup = Setup::new();
    for (query, target) in [
        ("exporter=e&collect[]=cpu&collect[]=loadavg", "/metrics?collect[]=cpu&collect[]=loadavg"),
        (
            "target=http://x:1/?a=b&exporter=e&module=a%20b",
            "/metrics?target=http://x:1/?a=b&module=a%20b",
        ),
        ("x=%2526&exporter=e", "/metrics?x=%2526"),
        ("exporter=e&&", "/metrics"),
    ] {
        let request = format!("GET /prometheus?{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        setup.assert_scraped(request, target);
    }
}

/// H41: as many parameters as fit into the head of 16 KiB, and no more.
#[test]
fn thousands_of_parameters_are_forwarded_in_order_and_ten_thousand_make_the_head_too_large() {
    let setup = Setup::new();
    let get =
        |many: &str| format!("GET /prometheus?{many}&exporter=e&last HTTP/1.1\r\nHost: h\r\n\r\n");
    let many = (0..2000).map(|it| format!("a={it}")).collect::<Vec<_>>().join("&");
    setup.assert_scraped(get(&many), &format!("/metrics?{many}&last"));
    let many = vec!["x"; 8000].join("&");
    setup.assert_scraped(get(&many), &format!("/metrics?{many}&last"));
    setup.assert_refused(get(&vec!["x"; 10_000].join("&")), 431, false);
    // `exporter` is found at any position in the query.
    setup.assert_refused(get(&format!("{many}&exporter=marker")), 400, true);
}

/// H41.
#[test]
fn with_forward_params_off_no_parameter_is_forwarded() {
    let setup = Setup::with("", "forward-params = False\n");
    let request = "GET /prometheus?exporter=e&collect[]=cpu HTTP/1.1\r\nHost: h\r\n\r\n";
    setup.assert_scraped(request, "/metrics");
}

/// H42.
#[test]
fn only_a_finite_positive_scrape_timeout_is_used() {
    let setup = Setup::with("", "timeout = 5\n");
    let left = |value: &str| -> f64 {
        let lines = format!("X-Prometheus-Scrape-Timeout-Seconds: {value}\r\n");
        let answer = setup.ask(scrape_with(&lines));
        assert_eq!(answer.head.status, 200, "{value}: {answer:?}");
        let head = &answer.upstream[0];
        let (_, rest) =
            head.split_once("x-prometheus-scrape-timeout-seconds: ").expect("a timeout");
        rest.split("\r\n").next().and_then(|it| it.parse().ok()).expect("a number")
    };
    for ignored in [
        "0",
        "-1",
        "NaN",
        "inf",
        "-inf",
        "infinity",
        "1,2",
        "",
        "x",
        "1s",
        "0x1",
        &"9".repeat(10_000),
    ] {
        let left = left(ignored);
        assert!((4.0..=5.0).contains(&left), "{ignored}: {left}");
    }
    for clamped in ["1e308", "1e9", "60"] {
        let left = left(clamped);
        assert!((4.0..=5.0).contains(&left), "{clamped}: {left}");
    }
    let left = left("2");
    assert!((1.0..=1.75).contains(&left), "{left}");
}
