//! Log records about many peers: a bounded number each second, and a count of the suppressed
//! records.

use std::{cell::Cell, io::Write};

use scrapegate_harness::proxy::Proxy;
use serde_json::Value;

use crate::{Setup, assert_scrapes, wait_for_end};

/// More events than may be logged in a second.
const MANY: u64 = 100;

/// The largest number of records with one message in any second.
const MOST: usize = 20;

/// Waits until `sent` records of this kind are written or counted as suppressed. Asserts that no
/// second has too many.
#[track_caller]
fn assert_bounded(proxy: &Proxy, kind: &str, sent: u64) {
    let (written, suppressed) = (Cell::new(0), Cell::new(0));
    proxy.wait_for_log(&format!("{sent} times {kind:?}"), |record| {
        let fields = &record["fields"];
        if fields["message"] == kind {
            written.set(written.get() + 1);
        } else if fields["message"] == "log records suppressed" && fields["kind"] == kind {
            suppressed.set(suppressed.get() + fields["left_out"].as_u64().expect("a number"));
        }
        written.get() + suppressed.get() == sent
    });
    assert!(suppressed.get() > 0, "{written:?} records: the flood is too small");
    let lines = proxy.log_lines();
    let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let times: Vec<f64> =
        records.filter(|record| record["fields"]["message"] == kind).map(|it| time(&it)).collect();
    for window in times.windows(MOST + 1) {
        // The limiter reads the clock slightly earlier than the record does.
        let span = (window[MOST] - window[0]).rem_euclid(24. * 3600.);
        assert!(span > 0.9, "{} records of {kind:?} in {span} s", MOST + 1);
    }
}

/// The time of a record, in seconds since midnight.
fn time(record: &Value) -> f64 {
    let (_, clock) =
        record["timestamp"].as_str().and_then(|it| it.split_once('T')).expect("a time");
    let parts = clock.trim_end_matches('Z').split(':').map(|it| it.parse::<f64>().expect("digits"));
    parts.fold(0., |sum, part| sum * 60. + part)
}

/// P13
#[test]
fn failed_handshakes_are_counted_and_logged_a_few_times_a_second() {
    let setup = Setup::new("");
    for _ in 0..MANY {
        let mut stream = setup.connect_silently();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        wait_for_end(&mut stream);
    }
    assert_bounded(&setup.proxy, "TLS handshake failed", MANY);
    setup.assert_serves_a_new_client();
}

/// P13
#[test]
fn excess_connections_are_counted_and_logged_a_few_times_a_second() {
    let setup = Setup::new("max-connections-per-ip = 1\n");
    let mut client = setup.connect();
    for _ in 0..MANY {
        wait_for_end(&mut setup.connect_silently());
    }
    let kind = "closing connection: max-connections-per-ip reached";
    assert_bounded(&setup.proxy, kind, MANY);
    assert_scrapes(&mut client);
}

/// P13
#[test]
fn refused_requests_are_logged_a_few_times_a_second_and_each_scrape_is_logged() {
    let setup = Setup::new("");
    let mut client = setup.connect();
    for _ in 0..MANY {
        assert_eq!(client.get("/prometheus?exporter=unknown").head.status, 404);
        assert_scrapes(&mut client);
    }
    assert_bounded(&setup.proxy, "request refused", MANY);
    let scrapes = Cell::new(0);
    setup.proxy.wait_for_log("all scrapes", |record| {
        scrapes.set(scrapes.get() + u64::from(record["fields"]["message"] == "scrape"));
        scrapes.get() == MANY
    });
}
