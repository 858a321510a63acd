//! Scrapes that are pipelined on one connection and read late.

use std::{cell::Cell, time::Duration};

use scrapegate_harness::{
    body::{Body, Kind},
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
    settled,
    testbed::outcome,
};

const SCRAPES: usize = 60;
const BODY: u64 = 100_000;

/// Waits until the proxy has stopped asking the exporter, because the scraper does not read.
fn wait_until_stuck(exporter: &Exporter) {
    let rest = Duration::from_millis(300);
    let asked = settled(rest, || Some(exporter.connections()).filter(|count| *count > 0));
    assert!(asked < SCRAPES, "nothing made the proxy wait");
}

/// The proxy must not mix up a response that the socket has not taken yet with the next one,
/// neither in bytes nor in records.
#[test]
fn pipelined_scrapes_that_are_read_late_arrive_complete_and_are_counted_once_each() {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(BODY))
    });
    let proxy = Proxy::start(&pki.config_ini(""), &exporter.section("e"));
    for round in 1..=2 {
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        let request = "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n";
        client.send(request.repeat(SCRAPES)).expect("sent");
        if round == 1 {
            wait_until_stuck(&exporter);
        }
        for number in 0..SCRAPES {
            let response = client.read_response().expect("a response");
            assert!(response.body.is_complete(), "{number}: {response:?}");
            assert_eq!(response.body.sha256, Body::sha256(Kind::Text, BODY), "{number}");
        }
        let seen = Cell::new(0);
        proxy.wait_for_log("a record of each", |record| {
            seen.set(seen.get() + usize::from(record["fields"]["message"] == "scrape"));
            seen.get() == round * SCRAPES
        });
        let records: Vec<_> = proxy
            .log_lines()
            .iter()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|record| record["fields"].clone())
            .filter(|fields| fields["message"] == "scrape")
            .collect();
        assert_eq!(records.len(), round * SCRAPES);
        assert!(records.iter().all(|record| outcome(record) == "complete"), "{records:#?}");
    }
}
