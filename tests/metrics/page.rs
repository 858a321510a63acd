//! The page itself: both formats, and names with special characters.

use std::collections::BTreeSet;

use scrapegate_harness::{
    body::Body,
    client::{Client, Response},
    exporter::{Conversation, Framing},
    metrics::Samples,
};

use crate::setup::Setup;

fn short(it: &mut Conversation) -> std::io::Result<()> {
    it.read_request()?;
    it.answer("", Framing::ContentLength, Body::text(100))
}

fn page(client: &mut Client, method: &str, accept: &str) -> Response {
    let request = format!("{method} /metrics HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n");
    client.send(request).expect("sent");
    client.read_response().expect("a response")
}

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

#[test]
fn both_formats_have_the_same_samples() {
    let setup = Setup::new("", &[("x", "")], short);
    let mut client = setup.connect();
    assert_eq!(client.get("/prometheus?exporter=x").head.status, 200);
    setup.wait_for("the scrape", |it| {
        it.value("scrapegate_scrapes_total{exporter=\"x\",outcome=\"complete\"}") == 1.0
    });
    let (text, openmetrics) =
        (page(&mut client, "GET", "*/*"), page(&mut client, "GET", OPENMETRICS));
    assert_eq!(text.head.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(
        openmetrics.head.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let (text, openmetrics) = (text.body.text(), openmetrics.body.text());
    assert!(openmetrics.ends_with("\n# EOF\n") && !text.contains("# EOF"));
    assert!(openmetrics.contains("\n# UNIT scrapegate_scrape_duration_seconds seconds\n"));
    assert!(openmetrics.contains("# TYPE scrapegate_scrapes counter\n"));
    assert!(text.contains("# TYPE scrapegate_scrapes_total counter\n") && !text.contains("# UNIT"));
    assert!(!text.contains("_created") && !openmetrics.contains("_created"));
    let names = |text: &str| -> BTreeSet<String> {
        // Go and Rust format a bound of one differently.
        let samples = Samples::parse(text);
        samples.starting_with("").map(|(series, _)| canonical(series)).collect()
    };
    assert_eq!(names(&text), names(&openmetrics));
    for page in [&text, &openmetrics] {
        assert_histograms_are_sound(page);
    }
}

/// A series with its labels in order and with `le` as a number.
fn canonical(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let mut labels: Vec<String> = labels
        .trim_end_matches('}')
        .split(',')
        .map(|label| match label.strip_prefix("le=\"").and_then(|it| it.strip_suffix('"')) {
            Some(bound) => format!("le={}", bound.parse::<f64>().expect("a bound")),
            None => label.to_owned(),
        })
        .collect();
    labels.sort();
    format!("{name}{labels:?}")
}

/// Asserts that buckets never decrease, and that the last bucket, `+Inf`, equals the count.
fn assert_histograms_are_sound(page: &str) {
    let samples = Samples::parse(page);
    let (mut previous, mut infinite) = (0.0, 0);
    for line in page.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let value: f64 = value.parse().expect("a count");
        assert!(value >= previous, "{line} is less than the bucket before");
        previous = value;
        if series.contains("le=\"+Inf\"") {
            // `le` is the first label in one format and the last label in the other.
            let count = series.replace("_bucket{", "_count{");
            let count = count.replace("le=\"+Inf\",", "").replace(",le=\"+Inf\"", "");
            assert_eq!(samples.value(&count), value, "{line}");
            previous = 0.0;
            infinite += 1;
        }
    }
    assert_eq!(infinite, 5, "one of the durations and four of the phases");
}

#[test]
fn head_returns_only_the_head() {
    let setup = Setup::new("", &[("x", "")], short);
    let mut client = setup.connect();
    let request = "HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request).expect("sent");
    let head = client.read_head().expect("a head");
    assert_eq!(head.status, 200, "{head:?}");
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    // Shows that the connection is at its next response, and not inside a body.
    assert_eq!(client.get("/metrics").head.status, 200);
}

#[test]
fn a_name_cannot_break_out_of_its_label() {
    let hostile = "a\"} 1 \\ {x=\"\u{202e}ä\\n";
    let setup = Setup::new("", &[(hostile, "")], short);
    let mut client = setup.connect();
    let escaped = "a%22%7D+1+%5C+%7Bx%3D%22%E2%80%AE%C3%A4%5Cn";
    let response = client.get(&format!("/prometheus?exporter={escaped}"));
    assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");
    let label = hostile.replace('\\', "\\\\").replace('"', "\\\"");
    let series = format!("scrapegate_response_bytes_total{{exporter=\"{label}\"}}");
    setup.wait_for("the scrape", |samples| samples.value(&series) == 100.0);

    let before = setup.samples();
    for name in ["%7D%0A", "nobody%22", "x%27%3B--", "unknown", &"y".repeat(128)] {
        client.get(&format!("/prometheus?exporter={name}"));
    }
    let samples = setup.samples();
    let names = |samples: &Samples| -> BTreeSet<String> {
        samples.starting_with("").map(|(series, _)| series.to_owned()).collect()
    };
    assert_eq!(names(&samples), names(&before), "a client created a series");
}

#[test]
fn an_exporter_named_unknown_is_distinct_from_unknown_exporters() {
    let setup = Setup::new("", &[("unknown", "")], short);
    let mut client = setup.connect();
    assert_eq!(client.get("/prometheus?exporter=unknown").head.status, 200);
    assert_eq!(client.get("/prometheus?exporter=other").head.status, 404);
    let series = |outcome| format!("scrapegate_scrapes_total{{exporter=\"unknown\",{outcome}}}");
    let samples = setup.wait_for("both", |samples| samples.sum("scrapegate_scrapes_total") == 2.0);
    assert_eq!(samples.value(&series("outcome=\"complete\"")), 1.0);
    assert_eq!(samples.value(&series("outcome=\"unknown_exporter\"")), 1.0);
}

#[test]
fn the_last_scrape_has_its_own_metrics() {
    let setup = Setup::new("", &[("x", "")], short);
    let of = |name: &str| format!("scrapegate_last_scrape_{name}{{exporter=\"x\"}}");
    assert_eq!(setup.samples().get(&of("timestamp_seconds")), None, "no scrape has finished yet");
    let mut client = setup.connect();
    assert_eq!(client.get("/prometheus?exporter=x").head.status, 200);
    let samples = setup.wait_for("the scrape", |it| it.get(&of("success")).is_some());
    assert_eq!(samples.value(&of("success")), 1.0);
    assert_eq!(samples.value(&of("response_bytes")), 100.0);
    let took = samples.value("scrapegate_scrape_duration_seconds_sum{exporter=\"x\"}");
    assert_eq!(samples.value(&of("duration_seconds")), took);
    let started = samples.value("process_start_time_seconds");
    let ended = samples.value(&of("timestamp_seconds"));
    assert!(ended >= started - 1.0 && ended < started + 600.0, "{started} {ended}");
}

#[test]
fn an_exporter_that_is_not_scraped_for_three_intervals_is_overdue() {
    let keys = "interval = 0.2\ntimeout = 0.2\n";
    let setup = Setup::new("", &[("often", keys), ("rarely", "interval = 3600\n")], short);
    let of = |name: &str| format!("scrapegate_exporter_overdue{{exporter=\"{name}\"}}");
    let (often, rarely) = (of("often"), of("rarely"));
    let samples = setup.wait_for("overdue", |samples| samples.value(&often) == 1.0);
    assert_eq!(samples.value(&rarely), 0.0);
    let mut client = setup.connect();
    setup.wait_for("asked for", |samples| {
        let overdue = samples.value(&often) == 1.0;
        if overdue {
            // On a busy machine, three intervals may pass before the next look.
            client.get("/prometheus?exporter=often");
        }
        !overdue
    });
}
