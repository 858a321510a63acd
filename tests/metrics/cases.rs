//! Each event increments exactly one event counter, by one.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustls::version::{TLS12, TLS13};
use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Conversation, Framing},
    forge::credentials,
    metrics::{self, ACCEPTED},
    pki::Pki,
    testbed::{Then, by_case, raw},
};

use crate::setup::Setup;

/// Runs `happen`, and waits until `series` has moved by one and no other event counter has moved.
fn assert_moves<T>(setup: &Setup, series: &str, happen: impl FnOnce() -> T) {
    drop(metrics::assert_moves(series, || setup.samples(), happen));
}

fn scrape_series(outcome: &str) -> String {
    format!("scrapegate_scrapes_total{{exporter=\"x\",outcome=\"{outcome}\"}}")
}

fn rejection(reason: &str) -> String {
    format!("scrapegate_http_rejected_total{{reason=\"{reason}\"}}")
}

fn handshake(result: &str) -> String {
    format!("scrapegate_tls_handshakes_total{{result=\"{result}\"}}")
}

/// An exporter that sends a short body, an endless one, part of one, or nothing.
fn setup(proxy_keys: &str, keys: &str) -> Setup {
    let script = by_case(vec![
        Box::new(|it: &mut Conversation| {
            it.answer("", Framing::Chunked(4096), Body::text(u64::MAX))
        }),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nup 1\n", Then::Stall),
        raw("", Then::Stall),
    ]);
    Setup::new(proxy_keys, &[("x", keys)], script)
}

/// Sends a request and returns its connection. Nothing is read from it.
fn unread(setup: &Setup, target: &str) -> Client {
    let mut client = setup.connect();
    client.send_get(target).expect("sent");
    client
}

#[test]
fn a_scrape_that_its_scraper_aborts_moves_one_counter() {
    let stalls = setup("stall-timeout = 0.5\n", "");
    assert_moves(&stalls, &scrape_series("scraper_stalled"), || {
        unread(&stalls, "/prometheus?exporter=x&case=0")
    });
    let setup = setup("", "timeout = 0.5\n");
    assert_moves(&setup, &scrape_series("deadline_scraper"), || {
        unread(&setup, "/prometheus?exporter=x&case=0")
    });
    assert_moves(&setup, &scrape_series("deadline_exporter"), || {
        unread(&setup, "/prometheus?exporter=x&case=1")
    });
    assert_moves(&setup, &scrape_series("scraper_gone"), || {
        let mut client = unread(&setup, "/prometheus?exporter=x&case=1");
        client.read_head().expect("a head");
    });
    let truncated = || stalls.samples().sum("scrapegate_truncated_total{");
    let before = truncated();
    assert_moves(&stalls, &scrape_series("scraper_gone"), || {
        let client = unread(&stalls, "/prometheus?exporter=x&case=2");
        let asked = || stalls.exporter.requests().iter().any(|it| it.contains("case=2"));
        stalls.wait_for("a request", |_| asked());
        drop(client);
    });
    assert_moves(&setup, &scrape_series("complete"), || unread(&setup, "/prometheus?exporter=x"));
    assert_eq!(truncated(), before, "a scrape without a head is not cut off");
}

#[test]
fn a_request_that_is_not_a_scrape_moves_at_most_one_counter() {
    let setup = setup("header-timeout = 0.5\n", "");
    assert_moves(&setup, &rejection("header_timeout"), || {
        let mut client = setup.connect();
        client.send("GET /prom").expect("sent");
        client.read_to_end()
    });
    assert_moves(&setup, &rejection("http_version"), || {
        let mut client = setup.connect();
        client.send("GET /prometheus HTTP/1.0\r\nHost: h\r\n\r\n").expect("sent");
        client.read_to_end()
    });
    let nobody = "scrapegate_scrapes_total{exporter=\"unknown\",outcome=\"unknown_exporter\"}";
    assert_moves(&setup, nobody, || setup.connect().get("/prometheus?exporter=nobody"));
    let before = setup.samples();
    let mut client = setup.connect();
    for target in ["/prometheus", "/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(client.get(target).head.status, 200, "{target}");
    }
    let samples = setup.samples();
    let events = samples.events_since(&before);
    assert!(events.keys().all(|series| *series == ACCEPTED), "{events:?}");
}

#[test]
fn a_failed_handshake_moves_one_counter() {
    let setup = setup("handshake-timeout = 0.5\n", "");
    let other = Pki::new();
    let address = setup.proxy.address();
    for versions in [&[&TLS12], &[&TLS13]] {
        // With TLS 1.3, the client learns of the failure only when it reads.
        assert_moves(&setup, &handshake("no_certificate"), || {
            Client::connect(address, setup.pki.stranger(versions)).map(|mut it| it.read_to_end())
        });
        assert_moves(&setup, &handshake("bad_certificate"), || {
            let forged = credentials(other.ca(), |_| {}, &[]);
            let config = setup.pki.client_with(versions, forged.chain, &forged.key);
            Client::connect(address, config).map(|mut it| it.read_to_end())
        });
        assert_moves(&setup, &handshake("refused_by_client"), || {
            Client::connect(address, other.client(versions)).map(drop)
        });
    }
    assert_moves(&setup, &handshake("protocol"), || {
        let mut plain = TcpStream::connect(address).expect("connected");
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let mut alert = Vec::new();
        // A reset counts as a refusal, too.
        let _ = plain.read_to_end(&mut alert);
        alert
    });
    assert_moves(&setup, &handshake("connection_lost"), || TcpStream::connect(address).map(drop));
    assert_moves(&setup, &handshake("timed_out"), || TcpStream::connect(address));
}

#[test]
fn an_evicted_handshake_moves_one_counter() {
    let setup = setup("max-handshakes = 1\nhandshake-timeout = 60\n", "");
    let address = setup.proxy.address();
    // A connection that has received a response has no handshake that could be evicted.
    setup.samples();
    let _first = TcpStream::connect(address).expect("connected");
    assert_moves(&setup, &handshake("evicted"), || TcpStream::connect(address));
}

#[test]
fn a_connection_above_the_limit_of_its_address_moves_one_counter() {
    let setup = setup("max-connections-per-ip = 1\n", "");
    let series = "scrapegate_accept_errors_total{kind=\"max_connections_per_ip\"}";
    assert_moves(&setup, series, || TcpStream::connect(setup.proxy.address()));
    assert_eq!(setup.samples().value("scrapegate_connections"), 1.0);
}
