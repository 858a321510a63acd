//! What the scraper receives of an exporter's response: the status, the body and the listed
//! headers.

use scrapegate_harness::{
    client::Head,
    metrics::Samples,
    testbed::{Action, Case, Expected, Testbed, Then, assert_control, by_case, raw, run, target},
};

/// The headers of `head`, sorted, without those that the proxy adds.
fn passed_on(head: &Head) -> Vec<(&str, &str)> {
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != "date")
        .collect();
    headers.sort_unstable();
    headers
}

#[test]
fn u36_only_the_listed_headers_reach_the_scraper() {
    let long = "x".repeat(10 * 1024);
    let answer = format!(
        "HTTP/1.1 200 Fine\r\n\
         Server: exporter/1.0\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Connection: X-Hop, Content-Type\r\n\
         Keep-Alive: timeout=5\r\n\
         X-Hop: 1\r\n\
         X-Long: {long}\r\n\
         Set-Cookie: a=b\r\n\
         Set-Cookie: c=d\r\n\
         WWW-Authenticate: Basic\r\n\
         Access-Control-Allow-Origin: *\r\n\
         Strict-Transport-Security: max-age=1\r\n\
         Location: http://192.0.2.1/\r\n\
         Trailer: X-Trailer\r\n\
         Upgrade: h2c\r\n\
         Alt-Svc: h3=\":443\"\r\n\
         Content-Type: text/plain; version=0.0.4\r\n\
         Content-Encoding: identity\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         ETag: \"x\"\r\n\
         Vary: Accept-Encoding\r\n\
         Retry-After: 7\r\n\
         Content-Length: 4\r\n\r\na 1\n"
    );
    let testbed = Testbed::new("", by_case(vec![raw(answer, Then::Fin)]));
    let response = testbed.client().get(&target("x", 0));
    assert!(response.body.is_complete() && response.body.text() == "a 1\n", "{response:?}");
    assert_eq!(
        passed_on(&response.head),
        [
            ("content-encoding", "identity"),
            ("content-length", "4"),
            ("content-type", "text/plain; version=0.0.4"),
            ("etag", "\"x\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "7"),
            ("vary", "Accept-Encoding"),
        ]
    );
    let date = response.head.header("date").expect("a date of the proxy's own");
    assert!(!date.contains("1994"), "{date}");
}

#[test]
fn u23_trailers_do_not_reach_the_scraper() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n\
                  4\r\na 1\n\r\n0\r\nX: 1\r\nContent-Length: 3\r\n\r\n";
    let testbed = Testbed::new("", by_case(vec![raw(answer, Then::Fin)]));
    let mut client = testbed.client();
    let response = client.get(&target("x", 0));
    // The strict scraper accepts no trailer.
    assert!(response.body.is_complete() && response.body.text() == "a 1\n", "{response:?}");
    assert_eq!(response.head.header("trailer"), None);
    assert_control(&mut client, "x");
}

#[test]
fn u35_an_exporters_error_status_is_passed_on_with_its_body() {
    let statuses = [400, 401, 403, 404, 429, 500, 502, 503, 599];
    let action = |status: &u16| -> Action {
        raw(
            format!(
                "HTTP/1.1 {status} Sorry\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                 Set-Cookie: a=b\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\nsorry!\n"
            ),
            Then::Fin,
        )
    };
    let testbed = Testbed::new("", by_case(statuses.iter().map(action).collect()));
    let mut client = testbed.client();
    for (case, status) in statuses.into_iter().enumerate() {
        let response = client.get(&target("x", case));
        assert_eq!(response.head.status, status);
        assert!(response.body.is_complete() && response.body.text() == "sorry!\n", "{response:?}");
        assert_eq!(
            passed_on(&response.head),
            [("content-length", "7"), ("content-type", "text/html")]
        );
    }
    for (record, status) in testbed.scrapes(statuses.len()).iter().zip(statuses) {
        assert_eq!(record["status"], status, "{record}");
        assert_eq!(record["outcome"], "exporter_status", "{record}");
    }
}

#[test]
fn u35_a_truncated_error_page_of_an_exporter_is_never_complete() {
    let answer = "HTTP/1.1 500 Sorry\r\nContent-Length: 8\r\n\r\nsorry!\n";
    let testbed = Testbed::new("", by_case(vec![raw(answer, Then::Fin)]));
    let response = testbed.client().get(&target("x", 0));
    if response.head.status == 500 {
        scrapegate_harness::testbed::assert_truncated("500", &response.body.end);
    } else {
        assert_eq!(response.head.status, 502, "{response:?}");
    }
    assert_eq!(testbed.only_outcome(), "exporter_cut_short");
}

#[test]
fn u38_a_body_of_another_content_type_is_passed_on() {
    let html = "<html>no metrics</html>";
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 23\r\n\r\n{html}");
    let expected = Expected::Unusable(200, html.into(), "not_metrics");
    let cases: Vec<Case> = vec![("html", raw(answer, Then::Fin), expected)];
    let testbed = run("", cases);
    let response = testbed.client().get(&target("x", 0));
    assert_eq!(response.head.header("content-type"), Some("text/html"));
}

#[test]
fn f21_heads_that_curl_and_prometheus_accept_are_accepted() {
    let heads = [
        "HTTP/1.1 200\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200\nContent-Length: 4\n",
        "HTTP/1.0 200\r\nContent-Length: 4\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 4\r\n",
        "HTTP/1.1 100\r\n\r\nHTTP/1.1 200\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 \u{e9}t\u{e9}\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nX y: 1\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n \r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\nX: y\n z\nContent-Length: 4\n",
        // Not a second length: the line continues the value of X.
        "HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 2\r\nContent-Length: 4\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\nTransfer-Encoding: chunked\r\n",
    ];
    let case = |head: &&'static str| -> Case {
        let body = if head.contains("chunked") { "4\r\na 1\n\r\n0\r\n\r\n" } else { "a 1\n" };
        let end = if head.contains('\r') { "\r\n" } else { "\n" };
        let answer = format!("{head}{end}{body}");
        (*head, raw(answer, Then::Fin), Expected::Whole(200, b"a 1\n".into()))
    };
    run("", heads.iter().map(case).collect());
}

#[test]
fn f21_a_repaired_header_is_passed_on_in_its_repaired_form() {
    let with = |lines: &str| {
        raw(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 4\r\n\r\na 1\n"), Then::Fin)
    };
    let testbed = Testbed::new(
        "",
        by_case(vec![
            with("Content-Type : text/plain\r\n"),
            with("Content-Type: text/plain;\r\n\t version=0.0.4\r\nETag:\r\n \"x\"\r\n"),
        ]),
    );
    let mut client = testbed.client();
    let plain = client.get(&target("x", 0));
    assert_eq!(plain.head.header("content-type"), Some("text/plain"), "{plain:?}");
    let folded = client.get(&target("x", 1));
    assert_eq!(folded.head.header("content-type"), Some("text/plain; version=0.0.4"), "{folded:?}");
    assert_eq!(folded.head.header("etag"), Some("\"x\""), "{folded:?}");
}

/// Each byte in a segment of its own, so that a malformed part is split between two reads. 2 ms is
/// enough for the proxy to read a segment before the next one is sent; if it is not, the test is
/// weaker but does not fail.
#[test]
fn f21_a_head_that_needs_repair_may_arrive_byte_by_byte() {
    let answer = "HTTP/1.1 200\r\nX : y\r\n z\r\nContent-Length: 4\r\n\r\na 1\n";
    let drops: Action = Box::new(move |it| {
        for byte in answer.as_bytes() {
            it.send([*byte])?;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        it.end()
    });
    run("", vec![("drops", drops, Expected::Whole(200, b"a 1\n".into()))]);
}

/// Prometheus sets `up` to 0 for these responses.
#[test]
fn f16_a_response_that_prometheus_refuses_is_passed_on_and_not_counted_as_success() {
    let answer = |status: &str, kind: &str| {
        raw(format!("HTTP/1.1 {status}\r\n{kind}Content-Length: 4\r\n\r\na 1\n"), Then::Fin)
    };
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    let body = || b"a 1\n".to_vec();
    let mut cases: Vec<Case> = Vec::new();
    for (line, status) in [
        ("201 Created", 201),
        ("202 Accepted", 202),
        ("203 x", 203),
        ("401 Unauthorized", 401),
        ("404 Not Found", 404),
        ("500 Oops", 500),
    ] {
        for kind in ["", "Content-Type: text/plain\r\n", html] {
            let expected = Expected::Unusable(status, body(), "exporter_status");
            cases.push((line, answer(line, kind), expected));
        }
    }
    for kind in [
        html,
        "Content-Type: application/json\r\n",
        "Content-Type: plain\r\n",
        "Content-Type: text/plainer\r\n",
        "Content-Type: ;;\r\n",
    ] {
        let expected = Expected::Unusable(200, body(), "not_metrics");
        cases.push((kind, answer("200 OK", kind), expected));
    }
    for kind in [
        "",
        "Content-Type:\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: Text/Plain ; version=0.0.4\r\n",
        "Content-Type: text/plain\r\nContent-Type: text/html\r\n",
        "Content-Type: application/vnd.google.protobuf; encoding=delimited\r\n",
    ] {
        cases.push((kind, answer("200 OK", kind), Expected::Whole(200, body())));
    }
    let testbed = run("", cases);
    for record in testbed.scrapes(31).iter().filter(|it| it["outcome"] == "not_metrics") {
        let cause = record["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("Content-Type `"), "{record}");
        assert_eq!(record["blame"], "exporter", "{record}");
    }
    let failing: Vec<_> = testbed
        .proxy
        .log_lines()
        .into_iter()
        .filter(|line| line.contains("exporter_status") || line.contains("not_metrics"))
        .collect();
    assert_eq!(failing.len(), 23);
    assert!(failing.iter().all(|line| line.contains("\"WARN\"")), "{failing:#?}");
}

#[test]
fn f16_last_scrape_success_and_the_page_agree_with_prometheus_up() {
    let answer =
        |head: &str| raw(format!("HTTP/1.1 {head}\r\nContent-Length: 4\r\n\r\na 1\n"), Then::Fin);
    let testbed = Testbed::new(
        "",
        by_case(vec![
            answer("200 OK"),
            answer("200 OK\r\nContent-Type: text/html"),
            answer("500 Oops"),
            answer("201 Created"),
        ]),
    );
    let mut client = testbed.client();
    for (case, success, said) in [
        (1, 0.0, "failing: the exporter's answer is not metrics"),
        (0, 1.0, "up"),
        (2, 0.0, "failing: the exporter answers with an error"),
        (0, 1.0, "up"),
        (3, 0.0, "failing: the exporter answers with an error"),
    ] {
        assert!(client.get(&target("x", case)).body.is_complete());
        let series = "scrapegate_last_scrape_success{exporter=\"x\"}";
        Samples::wait_for(&mut client, "", "the scrape", |it| {
            it.value(series) == success && it.sum("scrapegate_scrapes_in_flight{") == 0.0
        });
        let page = client.get("/").body.text().replace("&#39;", "'");
        assert!(page.contains(said), "{said}: {page}");
    }
}
