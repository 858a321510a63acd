//! The timeouts of a connection before, between and during requests.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    client::Client,
    hello::{AES_128_GCM, ECDHE_ECDSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello, in_crumbs},
};

use crate::{Setup, assert_lasted, assert_scrapes, wait_for_end};

const HALF_A_SECOND: Duration = Duration::from_millis(500);
/// The pause between two bytes of a client that never makes the proxy wait long.
const DRIP: Duration = Duration::from_millis(50);
const REQUEST: &str = "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n";

/// Waits for the end of a connection that must not get a response.
#[track_caller]
fn assert_ends_unanswered(client: &mut Client) -> Instant {
    let (bytes, _) = client.read_to_end();
    assert_eq!(String::from_utf8_lossy(&bytes), "");
    Instant::now()
}

/// Waits for the end of a connection whose request head never ends. Each is logged; `count` of them
/// have been refused so far.
#[track_caller]
fn assert_ends_at_header_timeout(setup: &Setup, refused: u64, client: &mut Client) -> Instant {
    let ended = assert_ends_unanswered(client);
    setup.proxy.assert_logged("request refused", refused);
    let lines = setup.proxy.log_lines();
    let of_this =
        lines.iter().filter(|line| line.contains("the request head was not complete within"));
    assert_eq!(of_this.count() as u64, refused, "{lines:#?}");
    ended
}

/// Sends the bytes one by one, with a pause after each, until the proxy closes the connection.
fn drip(bytes: &[u8], send: impl FnMut(&[u8]) -> std::io::Result<()>) {
    drip_by(1, bytes, send);
}

/// Sends `size` bytes at a time, with a pause after each, until the proxy closes the connection.
fn drip_by(size: usize, bytes: &[u8], mut send: impl FnMut(&[u8]) -> std::io::Result<()>) {
    for drop in bytes.chunks(size) {
        if send(drop).is_err() {
            return;
        }
        std::thread::sleep(DRIP);
    }
}

/// T32
#[test]
fn a_connection_without_a_handshake_is_closed_at_handshake_timeout() {
    let setup = Setup::new("handshake-timeout = 0.5\n");
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..20).map(|_| setup.connect_silently()).collect();
    // All handshakes start before the timeout of the first is checked.
    setup.assert_serves_a_new_client();
    for stream in &mut silent {
        let (bytes, ended) = wait_for_end(stream);
        assert_eq!(bytes, b"");
        assert_lasted(ended - begun, HALF_A_SECOND);
    }
    setup.proxy.wait_for_log("the end of a handshake", |record| {
        record["fields"]["reason"].as_str().is_some_and(|it| it.ends_with("longer than 0.5 s"))
    });
}

/// T33
#[test]
fn a_handshake_sent_byte_by_byte_is_closed_at_handshake_timeout() {
    let setup = Setup::new("handshake-timeout = 0.5\n");
    let begun = Instant::now();
    let mut stream = setup.connect_silently();
    // The start of a valid record of 200 bytes.
    let start = [&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 50]].concat();
    drip(&start, |byte| stream.write_all(byte));
    let (bytes, ended) = wait_for_end(&mut stream);
    assert_eq!(bytes, b"");
    // The client sent bytes until it noticed the end.
    assert_lasted(ended - begun, HALF_A_SECOND);
}

/// T33
#[test]
fn a_handshake_in_records_of_one_byte_is_closed_at_handshake_timeout() {
    let setup = Setup::new("handshake-timeout = 0.5\n");
    for (version, suite) in [(TLS_1_2, ECDHE_ECDSA_AES_128_GCM), (TLS_1_3, AES_128_GCM)] {
        let crumbs = in_crumbs(&client_hello(version, &[suite], None));
        let begun = Instant::now();
        let mut stream = setup.connect_silently();
        drip_by(6, &crumbs, |record| stream.write_all(record));
        let (bytes, ended) = wait_for_end(&mut stream);
        assert_eq!(bytes, b"", "{version:#x}");
        assert_lasted(ended - begun, HALF_A_SECOND);
    }
    setup.proxy.assert_logged("TLS handshake failed", 2);
    setup.assert_serves_a_new_client();
}

/// H02.
#[test]
fn a_connection_without_a_first_request_is_closed_at_header_timeout() {
    let setup = Setup::new("header-timeout = 0.5\nidle-timeout = 60\n");
    let begun = Instant::now();
    let mut client = setup.connect();
    assert_lasted(assert_ends_at_header_timeout(&setup, 1, &mut client) - begun, HALF_A_SECOND);
}

/// H01.
#[test]
fn a_first_request_sent_byte_by_byte_is_closed_at_header_timeout() {
    let setup = Setup::new("header-timeout = 0.5\nidle-timeout = 60\n");
    let begun = Instant::now();
    let mut client = setup.connect();
    drip(REQUEST.as_bytes(), |byte| client.send(byte));
    assert_lasted(assert_ends_at_header_timeout(&setup, 1, &mut client) - begun, HALF_A_SECOND);
}

/// H01.
#[test]
fn endless_headers_are_cut_off_at_header_timeout() {
    let setup = Setup::new("header-timeout = 0.5\nidle-timeout = 60\n");
    let begun = Instant::now();
    let mut client = setup.connect();
    client.send(REQUEST.strip_suffix("\r\n").expect("an empty line")).expect("sent");
    drip(&b"x: y\r\n".repeat(10), |byte| client.send(byte));
    assert_lasted(assert_ends_at_header_timeout(&setup, 1, &mut client) - begun, HALF_A_SECOND);
}

/// H01.
#[test]
fn a_later_request_is_timed_from_its_first_byte() {
    let setup = Setup::new("header-timeout = 0.5\nidle-timeout = 60\n");
    let rests = ["", "ET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\nX: "];
    for (refused, rest) in (1..).zip(rests) {
        let mut client = setup.connect();
        assert_scrapes(&mut client);
        // Waits longer than `header-timeout`: an idle connection has `idle-timeout` instead.
        std::thread::sleep(HALF_A_SECOND + DRIP);
        let begun = Instant::now();
        client.send("G").expect("sent");
        drip(rest.as_bytes(), |byte| client.send(byte));
        assert_lasted(
            assert_ends_at_header_timeout(&setup, refused, &mut client) - begun,
            HALF_A_SECOND,
        );
    }
}

/// H01.
#[test]
fn an_incomplete_pipelined_request_is_timed_too() {
    let setup = Setup::new("header-timeout = 0.5\nidle-timeout = 60\n");
    let mut client = setup.connect();
    let begun = Instant::now();
    client.send(format!("{REQUEST}GET /prom")).expect("sent");
    let response = client.read_response().expect("the answer to the first");
    assert_eq!(response.head.status, 200);
    assert_lasted(assert_ends_at_header_timeout(&setup, 1, &mut client) - begun, HALF_A_SECOND);
}

/// H02.
#[test]
fn an_idle_connection_is_closed_at_idle_timeout() {
    let setup = Setup::new("header-timeout = 60\nidle-timeout = 0.5\n");
    let mut client = setup.connect();
    let begun = Instant::now();
    assert_scrapes(&mut client);
    assert_lasted(assert_ends_unanswered(&mut client) - begun, HALF_A_SECOND);
}

#[test]
fn each_request_restarts_the_idle_timeout() {
    let setup = Setup::new("header-timeout = 60\nidle-timeout = 2\n");
    let mut client = setup.connect();
    for _ in 0..3 {
        assert_scrapes(&mut client);
        // Half of `idle-timeout`. Three of these pauses are longer than it.
        std::thread::sleep(HALF_A_SECOND * 2);
    }
    assert_scrapes(&mut client);
}

#[test]
fn a_scrape_may_last_longer_than_the_timeouts_between_requests() {
    let pki = scrapegate_harness::pki::Pki::new();
    let exporter = scrapegate_harness::exporter::Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1\n")?;
        // Longer than each of the timeouts below.
        std::thread::sleep(HALF_A_SECOND * 2);
        conversation.send("2\n")
    });
    let keys =
        "handshake-timeout = 0.5\nheader-timeout = 0.5\nidle-timeout = 0.5\nstall-timeout = 0.5\n";
    let proxy =
        scrapegate_harness::proxy::Proxy::start(&pki.config_ini(keys), &exporter.section("e"));
    let config = pki.client(scrapegate_harness::pki::BOTH_VERSIONS);
    let mut client = Client::connect(proxy.address(), config).expect("a handshake");
    let response = client.get("/prometheus?exporter=e");
    assert_eq!((response.head.status, response.body.text().as_str()), (200, "1\n2\n"));
    assert!(response.body.is_complete());
}
