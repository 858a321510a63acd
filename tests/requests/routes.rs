//! Paths and names, and what they select.

use std::cell::Cell;

use scrapegate_harness::{pki::Pki, proxy::Proxy};

use crate::{Setup, is_kept};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn health_and_readiness_are_answered_without_an_exporter() {
    let setup = Setup::new();
    for (target, body) in [("/-/healthy", "healthy\n"), ("/-/ready", "ready\n")] {
        let answer = setup.ask(get(target));
        assert_eq!((answer.head.status, answer.body.as_str(), answer.kept), (200, body, true));
        assert!(answer.upstream.is_empty());
    }
}

#[test]
fn the_list_has_the_enabled_exporters_as_json_in_file_order() {
    let more = "\n[zebra]\nenabled = yes\nport = 1\npath = /metrics\n\
                \n[off]\nenabled = no\nport = 1\npath = /metrics\n\
                \n[a \"quoted\" \\ name]\nenabled = yes\nport = 1\npath = /metrics\n\
                \n[B\u{e4}r]\nenabled = yes\nport = 1\npath = /metrics\n";
    let setup = Setup::with("", more);
    for target in ["/prometheus", "/prometheus?", "/prometheus?other=x"] {
        let answer = setup.ask(get(target));
        assert_eq!((answer.head.status, answer.kept), (200, true));
        assert_eq!(answer.head.header("content-type"), Some("application/json"));
        let names: Vec<String> = serde_json::from_str(&answer.body).expect("a list of names");
        assert_eq!(names, ["e", "zebra", "a \"quoted\" \\ name", "B\u{e4}r"]);
    }
    // A disabled exporter is treated as missing.
    let answer = setup.ask(get("/prometheus?exporter=off"));
    assert_eq!((answer.head.status, answer.body.as_str()), (404, "Unknown exporter"));
}

/// The response of HTTP SD as JSON, requested with this `Host`.
fn discover(setup: &Setup, host: &str) -> serde_json::Value {
    let answer = setup.ask(format!("GET /prometheus/sd HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!((answer.head.status, answer.kept), (200, true), "{answer:?}");
    assert_eq!(answer.head.header("content-type"), Some("application/json"));
    assert!(answer.upstream.is_empty(), "discovery does not ask the exporters");
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn discovery_has_a_target_group_for_each_enabled_exporter_at_the_requested_host() {
    let more = "interval = 1.5\ntimeout = 0.25\n\
                \n[down \u{e4}]\nenabled = yes\nport = 1\npath = /metrics\n\
                \n[off]\nenabled = no\nport = 1\npath = /metrics\n";
    let setup = Setup::with("", more);
    let group = |name, interval, timeout, target| {
        serde_json::json!({
            "targets": [target],
            "labels": {
                "__scheme__": "https",
                "__metrics_path__": "/prometheus",
                "__param_exporter": name,
                "__scrape_interval__": interval,
                "__scrape_timeout__": timeout,
                "exporter": name,
            },
        })
    };
    for host in ["node1.example.org:3333", "[2001:db8::1]:3333", "10.0.0.1"] {
        let expected = serde_json::json!([
            group("e", "1500ms", "250ms", host),
            group("down \u{e4}", "15s", "15s", host),
        ]);
        assert_eq!(discover(&setup, host), expected);
    }
}

#[test]
fn discovery_has_the_advertised_address_with_the_listening_port() {
    for (advertise, port) in [("[2001:db8::1]", None), ("node1.example.org:443", Some(443))] {
        let setup = Setup::with(&format!("advertise = {advertise}\n"), "");
        let expected = match port {
            Some(_) => advertise.to_owned(),
            None => format!("{advertise}:{}", setup.proxy.address().port()),
        };
        assert_eq!(discover(&setup, "h:1")[0]["targets"], serde_json::json!([expected]));
    }
}

#[test]
fn discovery_is_empty_without_an_exporter() {
    let mut setup = Setup::new();
    setup.proxy = Proxy::start(&setup.pki.config_ini(""), "");
    setup.at_rest = setup.proxy.open_fds();
    assert_eq!(discover(&setup, "h"), serde_json::json!([]));
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let setup = Setup::new();
    let mut client = setup.connect();
    for target in [
        "/prometheus",
        "/prometheus/sd",
        "/-/healthy",
        "/prometheus?exporter=e",
        "/nothing",
        "/prometheus?exporter=",
    ] {
        client.send(get(target)).expect("sent");
        let with_body = client.read_response().expect("a response");
        client.send(get(target).replacen("GET", "HEAD", 1)).expect("sent");
        let head = client.read_head().expect("a head");
        assert_eq!(head.status, with_body.head.status, "{target}");
        setup.refused(if head.status == 200 { 0 } else { 2 });
        for name in ["content-type", "content-length"] {
            assert_eq!(head.header(name), with_body.head.header(name), "{target}");
        }
        // Without a body, the next response begins immediately.
        assert!(is_kept(&mut client), "{target}");
    }
    let requests = setup.exporter.requests();
    assert!(requests[1].starts_with("HEAD /metrics HTTP/1.1\r\n"), "{requests:?}");
    assert_eq!(setup.proxy.wait_for_scrape("e")["outcome"], "complete");
}

/// A 405 would list methods that a disabled path does not have.
#[test]
fn a_disabled_path_is_404_for_every_method_and_the_proxy_is_healthy() {
    let pki = Pki::new();
    let config = pki.config_ini("status-page = False\nhttp-reload = False\n");
    let config = format!("{config}\n[prometheus]\nenabled = False\n");
    let setup = Setup::with_config(pki, &config, "");
    for target in [
        "/",
        "/prometheus",
        "/prometheus/sd",
        "/prometheus?exporter=e",
        "/prometheus?exporter=other",
        "/autotls",
        "/-/reload",
        "/nothing",
    ] {
        for method in ["GET", "POST", "PUT", "OPTIONS", "MARKER"] {
            // The proxy serves no further request after one that may have a body.
            let kept = (method, target) != ("POST", "/autotls");
            let head = setup.assert_refused(
                format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
                404,
                kept,
            );
            assert_eq!(head.header("allow"), None, "{method} {target}");
        }
    }
    assert_eq!(setup.ask(get("/-/healthy")).head.status, 200);
}

/// H33.
#[test]
fn a_path_matches_byte_for_byte_or_not_at_all() {
    let setup = Setup::new();
    for path in [
        "//prometheus",
        "/prometheus/",
        "/Prometheus",
        "/%70rometheus",
        "/prometheus/../x",
        "/x/../prometheus",
        "/./prometheus",
        "/prometheus;a",
        "/prometheus%00",
        "/prometheus%3Fexporter=e",
        "/prometheus%20",
        "/prometheusx",
        "/metrics/",
        "/-/healthy/",
        "/-/reload",
        "/-//ready",
        "/marker",
        "/..%2fprometheus",
        "/prometheus\\",
    ] {
        setup.assert_refused(get(&format!("{path}?exporter=e")), 404, true);
    }
}

/// H36.
#[test]
fn an_unknown_exporter_gets_the_agents_message() {
    let setup = Setup::new();
    for name in ["marker", "E", "e%20", "%20e", "ee", "e%2525", "e+", "%2Fe"] {
        let answer = setup.ask(get(&format!("/prometheus?exporter={name}")));
        assert_eq!((answer.head.status, answer.kept), (404, true), "{name}");
        assert_eq!(answer.body, "Unknown exporter", "{name}");
        assert!(answer.upstream.is_empty());
    }
    setup.assert_scraped(get("/prometheus?exporter=%65"), "/metrics");
}

/// H37.
#[test]
fn an_exporter_name_is_never_used_as_a_path() {
    let setup = Setup::new();
    for name in [
        "..%2f..%2fetc%2fpasswd",
        "../../etc",
        "e/../../",
        "e%2f..",
        "e\\",
        "e%5c..",
        "file:///etc",
        ".",
    ] {
        let answer = setup.ask(get(&format!("/prometheus?exporter={name}")));
        assert!([400, 404].contains(&answer.head.status), "{name}: {answer:?}");
        assert!(answer.kept && answer.upstream.is_empty(), "{name}");
    }
}

/// H34, H35.
#[test]
fn an_exporter_parameter_that_is_empty_repeated_or_malformed_is_a_bad_request() {
    let setup = Setup::new();
    let long = format!("exporter={}", "m".repeat(129));
    for query in [
        "exporter=",
        "exporter",
        "exporter=&exporter=e",
        "exporter=e&exporter=e",
        "exporter=e&exporter=marker",
        "exporter=marker&a=b&exporter=e",
        "exporter=e&e%78porter=e",
        "exporter=e&exporter",
        "exporter=%",
        "exporter=%4",
        "exporter=%zz",
        "exporter=e%",
        "exporter=%ff",
        "exporter=%c3%28",
        "exporter=%ed%a0%80",
        "exporter=e&x=%",
        "exporter=e&%zz=1",
        &long,
    ] {
        setup.assert_refused(get(&format!("/prometheus?{query}")), 400, true);
    }
}

/// H39.
#[test]
fn control_characters_in_a_name_reach_neither_the_exporter_nor_the_log() {
    let setup = Setup::new();
    let names = ["e%00", "e%0d%0aX:1", "e%0a", "e%09", "%1b%5b31me", "e%7f", "e%c2%85"];
    for name in names {
        setup.assert_refused(get(&format!("/prometheus?exporter={name}")), 400, true);
    }
    let (seen, is_record) = (Cell::new(0), |line: &str| line.contains("\"exporter_parameter\""));
    setup.proxy.wait_for_log("one record each", |record| {
        seen.set(seen.get() + usize::from(is_record(&record.to_string())));
        seen.get() == names.len()
    });
    let lines = setup.proxy.log_lines();
    assert_eq!(lines.iter().filter(|line| is_record(line)).count(), names.len(), "{lines:#?}");
    for line in lines {
        assert!(!line.contains("X:1") && !line.contains('\u{1b}'), "{line}");
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

/// The scraper forgot `metrics_path`, and would take the proxy's metrics for those of the exporter.
#[test]
fn f18_an_exporter_parameter_on_another_path_is_400() {
    let setup = Setup::new();
    let mut client = setup.connect();
    for target in [
        "/metrics?exporter=e",
        "/metrics?%65xporter=e",
        "/metrics?exporter",
        "/prometheus/sd?exporter=e",
    ] {
        client.send(get(target)).expect("sent");
        let response = client.read_response().expect("a response");
        let said = (response.head.status, response.head.reason.as_str());
        assert_eq!(said, (400, "bad exporter parameter"), "{target}");
        assert_eq!(response.body.text(), "bad exporter parameter\n", "{target}");
        client.send(get(target).replacen("GET", "HEAD", 1)).expect("sent");
        assert_eq!(client.read_head().expect("a head").status, 400, "{target}");
        setup.refused(2);
        assert!(is_kept(&mut client), "{target}");
    }
    client.send(get("/metrics?name[]=up")).expect("sent");
    assert_eq!(client.read_response().expect("a response").head.status, 200);
    setup.proxy.wait_for_log("the hint", |record| {
        let hint = record["fields"]["hint"].as_str();
        hint.is_some_and(|it| it.contains("metrics_path"))
    });
}

#[test]
fn f32_a_percent_encoded_query_in_the_path_is_404_with_a_hint_in_the_log() {
    let setup = Setup::new();
    let mut client = setup.connect();
    for target in ["/prometheus%3Fexporter=e", "/prometheus%3fexporter=e%26x=y"] {
        client.send(get(target)).expect("sent");
        let response = client.read_response().expect("a response");
        let said = (response.head.status, response.head.reason.as_str());
        assert_eq!(said, (404, "query is percent-encoded in the path"), "{target}");
        assert_eq!(response.body.text(), "query is percent-encoded in the path\n");
        setup.refused(1);
        assert!(is_kept(&mut client), "{target}");
    }
    setup.proxy.wait_for_log("the hint", |record| {
        record["fields"]["reason"] == "encoded_query"
            && record["fields"]["hint"].as_str().is_some_and(|it| it.contains("into params"))
    });
}
