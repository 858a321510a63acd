//! Over sockets: what scrapers ask for, what they get, and what is counted.

use scrapegate::common::compression::ContentCoding;
use scrapegate_harness::{
    client::{Client, Response},
    decoder::Decoded,
    metrics::Samples,
    testbed::{Action, Testbed, Then, by_case, raw, target},
};

const TEXT: &str = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";

/// A whole answer with this status, these header lines and this body.
fn answer(status: u16, headers: &str, body: &str) -> Action {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} So\r\n{headers}Content-Length: {length}\r\n\r\n");
    raw(head + body, Then::Fin)
}

fn get(client: &mut Client, target: &str, headers: &str) -> Response {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).expect("sent");
    client.read_response().expect("a response head")
}

/// The body of a whole response, decoded as its head says.
fn plain(response: &Response) -> String {
    assert!(response.body.is_complete(), "{response:?}");
    let coding = match response.head.header("content-encoding") {
        None => return response.body.text(),
        Some("zstd") => ContentCoding::Zstd,
        Some("gzip") => ContentCoding::Gzip,
        Some(other) => panic!("{other}"),
    };
    let Decoded { bytes, is_clean } = Decoded::of(coding, &response.body.start);
    assert!(is_clean, "{response:?}");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_scraper_gets_the_coding_that_it_and_the_exporters_section_prefer() {
    let body = "a_metric 1\n".repeat(1000);
    let sections = [
        ("always", "compression = always\n"),
        ("gzip-first", "compression = always\ncompression-algorithms = gzip, zstd\n"),
        ("gzip-only", "compression = always\ncompression-algorithms = gzip\n"),
        ("auto", "compression = auto\n"),
        ("usual", ""),
        ("off", "compression = off\n"),
    ];
    let testbed = Testbed::with_names(&sections, by_case(vec![answer(200, TEXT, &body)]));
    let mut client = testbed.client();
    for (exporter, accepts, expected) in [
        ("always", "Accept-Encoding: gzip, zstd\r\n", Some("zstd")),
        ("always", "Accept-Encoding: gzip, zstd;q=0.9\r\n", Some("gzip")),
        ("always", "Accept-Encoding: zstd;q=0\r\nAccept-Encoding: *\r\n", Some("gzip")),
        ("always", "Accept-Encoding: x-gzip\r\n", Some("gzip")),
        ("always", "Accept-Encoding: br\r\n", None),
        ("always", "Accept-Encoding: identity\r\n", None),
        ("always", "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n", None),
        ("always", "", None),
        ("gzip-first", "Accept-Encoding: zstd, gzip\r\n", Some("gzip")),
        ("gzip-only", "Accept-Encoding: zstd\r\n", None),
        // This scraper is on the same host.
        ("auto", "Accept-Encoding: gzip, zstd\r\n", None),
        ("usual", "Accept-Encoding: gzip, zstd\r\n", None),
        ("off", "Accept-Encoding: gzip, zstd\r\n", None),
    ] {
        let response = get(&mut client, &target(exporter, 0), accepts);
        let story = format!("{exporter}, {accepts:?}: {response:?}");
        assert_eq!(response.head.header("content-encoding"), expected, "{story}");
        assert_eq!(plain(&response), body, "{story}");
        let varies = expected.map(|_| "Accept-Encoding");
        assert_eq!(response.head.header("vary"), varies, "{story}");
        let length = response.head.header("content-length").map(str::to_owned);
        assert_eq!(length, expected.is_none().then(|| body.len().to_string()), "{story}");
        // The exporter is asked for what the scraper accepts, or for the plain bytes.
        let asked = testbed.exporter.requests().pop().expect("a request").to_ascii_lowercase();
        let asked: Vec<_> = asked.lines().filter(|it| it.starts_with("accept-encoding")).collect();
        if expected.is_some() {
            assert_eq!(asked, ["accept-encoding: identity"], "{story}");
        } else {
            assert_eq!(asked.len(), accepts.matches("Accept-Encoding").count(), "{story}");
        }
    }
}

#[test]
fn answers_that_are_not_plain_metrics_pass_unchanged_although_the_scraper_asks() {
    let tagged = format!("{TEXT}ETag: \"e\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let encoded = format!("{TEXT}Content-Encoding: gzip\r\n");
    let kept = format!("{TEXT}Cache-Control: no-transform\r\n");
    let actions = vec![
        answer(200, &tagged, "a 1\n"),
        answer(200, &encoded, "as good as encoded"),
        answer(200, &kept, "a 1\n"),
        answer(200, "Content-Type: text/html\r\n", "<html>"),
        answer(200, "", "a 1\n"),
        answer(503, TEXT, "busy\n"),
        answer(200, TEXT, ""),
    ];
    let testbed = Testbed::new("compression = always\n", by_case(actions));
    let mut client = testbed.client();
    let mut scrape = |case| get(&mut client, &target("x", case), "Accept-Encoding: gzip\r\n");
    let first = scrape(0);
    assert_eq!(first.head.header("content-encoding"), Some("gzip"));
    assert_eq!(first.head.header("etag"), Some("W/\"e\""));
    assert_eq!(first.head.header("last-modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(plain(&first), "a 1\n");
    for (case, encoding, text) in [
        (1, Some("gzip"), "as good as encoded"),
        (2, None, "a 1\n"),
        (3, None, "<html>"),
        (4, None, "a 1\n"),
        (5, None, "busy\n"),
    ] {
        let response = scrape(case);
        assert_eq!(response.head.header("content-encoding"), encoding, "{case}: {response:?}");
        assert_eq!(response.head.header("vary"), None, "{case}: {response:?}");
        assert!(response.body.is_complete() && response.body.text() == text, "{response:?}");
    }
    let empty = scrape(6);
    assert_eq!(empty.head.header("content-encoding"), Some("gzip"));
    assert_eq!(plain(&empty), "");
}

#[test]
fn bytes_are_counted_on_both_sides_and_scrapes_by_encoding() {
    let body = "a_metric 1\n".repeat(1000);
    let encoded = format!("{TEXT}Content-Encoding: br\r\n");
    let actions = vec![answer(200, TEXT, &body), answer(200, &encoded, "br")];
    let testbed = Testbed::new("compression = always\n", by_case(actions));
    let mut client = testbed.client();
    let sent: Vec<u64> = [
        (0, "Accept-Encoding: zstd\r\n"),
        (0, "Accept-Encoding: gzip\r\n"),
        (0, ""),
        (1, "Accept-Encoding: br\r\n"),
    ]
    .into_iter()
    .map(|(case, accepts)| get(&mut client, &target("x", case), accepts).body.bytes)
    .collect();
    let received = [11_000, 11_000, 11_000, 2];
    assert!(sent[0] < 200 && sent[1] < 200 && sent[2..] == received[2..], "{sent:?}");
    let words = ["zstd", "gzip", "identity", "other"];
    for (number, record) in testbed.scrapes(words.len()).iter().enumerate() {
        assert_eq!(record["encoding"], words[number], "{record}");
        assert_eq!(record["received_bytes"], received[number], "{record}");
        assert_eq!(record["bytes"], sent[number], "{record}");
    }
    let samples = Samples::of(&mut client);
    let value = |name: &str| samples.value(&format!("{name}{{exporter=\"x\"}}"));
    assert_eq!(value("scrapegate_exporter_bytes_total"), 33_002.0);
    // Exact: far below 2^53.
    assert_eq!(value("scrapegate_response_bytes_total"), sent.iter().sum::<u64>() as f64);
    for word in words {
        let series =
            format!("scrapegate_scrapes_by_encoding_total{{exporter=\"x\",encoding=\"{word}\"}}");
        assert_eq!(samples.value(&series), 1.0, "{series}");
    }
}

#[test]
fn an_answer_can_be_filtered_and_then_compressed() {
    let body = "# TYPE a counter\na_total 1\nb 2\n".repeat(300);
    let tagged = format!("{TEXT}ETag: \"e\"\r\n");
    let encoded = format!("{TEXT}Content-Encoding: gzip\r\n");
    let actions = vec![answer(200, &tagged, &body), answer(200, &encoded, "as good as encoded")];
    let testbed = Testbed::new("compression = always\nmetrics-drop = b\n", by_case(actions));
    let mut client = testbed.client();
    let accepts = "Accept: application/vnd.google.protobuf, text/plain;q=0.5\r\n";
    for coding in ["zstd", "gzip"] {
        let headers = format!("{accepts}Accept-Encoding: {coding}\r\n");
        let response = get(&mut client, &target("x", 0), &headers);
        assert_eq!(response.head.header("content-encoding"), Some(coding), "{response:?}");
        assert_eq!(response.head.header("vary"), Some("Accept-Encoding"), "{response:?}");
        for absent in ["etag", "content-length"] {
            assert_eq!(response.head.header(absent), None, "{response:?}");
        }
        assert_eq!(plain(&response), body.replace("b 2\n", ""));
        let asked = testbed.exporter.requests().pop().expect("a request").to_ascii_lowercase();
        assert!(asked.contains("\r\naccept-encoding: identity\r\n"), "{asked}");
        assert!(asked.contains("text/plain") && !asked.contains("protobuf"), "{asked}");
        // What another program has encoded cannot be filtered.
        let refused = get(&mut client, &target("x", 1), &headers);
        assert_eq!(refused.head.status, 502, "{refused:?}");
        assert_eq!(refused.head.header("content-encoding"), None, "{refused:?}");
    }
    let samples = Samples::of(&mut client);
    let dropped = samples.value("scrapegate_families_dropped_total{exporter=\"x\"}");
    assert_eq!(dropped, 2.0, "one in each of two scrapes");
}
