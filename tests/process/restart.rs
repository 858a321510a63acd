//! A proxy that was killed, and its successor.

use std::time::{Duration, Instant};

use scrapegate_harness::{
    body::Body,
    client::{Client, End},
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// P09
#[test]
fn the_successor_of_a_killed_proxy_listens_on_the_same_port_at_once() {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        let length = if conversation.read_request()?.contains("large") { 1 << 40 } else { 100 };
        conversation.answer("", Framing::Chunked(4096), Body::text(length))
    });
    let mut killed = Proxy::start(&pki.config_ini(""), &exporter.section("e"));
    let address = killed.address();
    let connect = || Client::connect(address, pki.client(BOTH_VERSIONS)).expect("a handshake");
    let mut idle = connect();
    assert!(idle.get("/prometheus?exporter=e").body.is_complete());
    let mut scraping = connect();
    scraping.send_get("/prometheus?exporter=e&large").expect("sent");
    let head = scraping.read_head().expect("a head");

    killed.signal("KILL");
    assert_eq!(killed.wait_exit().code(), None, "a signal has no exit code");
    let begun = Instant::now();
    let default = format!("[default]\naddress = {}\nport = {}\n", address.ip(), address.port());
    let config = pki.config_ini("").replacen("[default]\n", &default, 1);
    let next = Proxy::start_where_told(&config, &exporter.section("e"));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(next.address(), address);
    let body = scraping.read_body(&head);
    assert!(matches!(body.end, End::Incomplete(_)), "{body:?}");
    assert!(connect().get("/prometheus?exporter=e").body.is_complete());
}
