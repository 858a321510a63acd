//! 200 MB through the real binary over mutual TLS: byte for byte the same, with memory flat.
//!
//! Not shown here: speed, and what a scraper that reads slowly costs.

mod support;

use support::{
    body::{Body, Kind},
    client::Client,
    exporter::{Conversation, Exporter, Framing, Script},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The scrape that brings the proxy to its working set.
const WARM_UP: u64 = 1_000_000;
const LARGE: u64 = 200_000_000;
/// By how much the peak of the resident memory may grow from one to the other.
const FLAT_KIB: u64 = 8 * 1024;

/// Answers with as many bytes as the parameter `bytes` of the request asks for.
fn body_of_the_asked_length(headers: &'static str, framing: Framing, kind: Kind) -> impl Script {
    move |conversation: &mut Conversation| {
        let request = conversation.read_request()?;
        let (_, rest) = request.split_once("bytes=").expect("a forwarded parameter");
        let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
        let len = digits.and_then(|it| it.parse().ok()).expect("a number");
        conversation.answer(headers, framing, Body::new(kind, len))
    }
}

/// Scrapes a small body and a large one through a new proxy, and checks hash, end and memory.
fn assert_streamed(pki: &Pki, exporter: &Exporter, kind: Kind) -> Vec<(String, String)> {
    let section = exporter.section("large");
    let proxy =
        Proxy::start(&pki.config_ini(""), &format!("{section}interval = 300\ntimeout = 300\n"));
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");

    let mut scrape = |bytes: u64| {
        let response = client.get(&format!("/prometheus?exporter=large&bytes={bytes}"));
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_eq!(response.body.bytes, bytes);
        assert_eq!(response.body.sha256, Body::sha256(kind, bytes));
        response.head.headers
    };

    scrape(WARM_UP);
    let before = proxy.peak_rss_kib();
    let headers = scrape(LARGE);
    // Linux shows the larger of a peak that it updates now and then and of the present, which may
    // be less than what it showed before.
    let grown = proxy.peak_rss_kib().saturating_sub(before);
    assert!(grown <= FLAT_KIB, "the peak memory grew by {grown} KiB, from {before} KiB");
    headers
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn a_large_chunked_body_arrives_whole_with_memory_flat() {
    let pki = Pki::new();
    let framing = Framing::Chunked(4096);
    let exporter = Exporter::start(body_of_the_asked_length("", framing, Kind::Text));
    let headers = assert_streamed(&pki, &exporter, Kind::Text);
    assert_eq!(value(&headers, "transfer-encoding"), Some("chunked"));
}

#[test]
fn a_large_body_with_content_length_arrives_whole_with_memory_flat_and_keeps_its_length() {
    let pki = Pki::new();
    let framing = Framing::ContentLength;
    let exporter = Exporter::start(body_of_the_asked_length("", framing, Kind::Text));
    let headers = assert_streamed(&pki, &exporter, Kind::Text);
    assert_eq!(value(&headers, "content-length"), Some(LARGE.to_string().as_str()));
}

#[test]
fn a_large_body_that_only_the_connection_ends_arrives_whole_with_memory_flat() {
    let pki = Pki::new();
    let framing = Framing::UntilClose;
    let exporter = Exporter::start(body_of_the_asked_length("", framing, Kind::Text));
    let headers = assert_streamed(&pki, &exporter, Kind::Text);
    assert_eq!(value(&headers, "transfer-encoding"), Some("chunked"));
}

#[test]
fn a_large_gzip_body_arrives_as_it_is_with_memory_flat() {
    let pki = Pki::new();
    let headers = "Content-Type: text/plain; version=0.0.4\r\nContent-Encoding: gzip\r\n";
    let framing = Framing::Chunked(2048);
    let exporter = Exporter::start(body_of_the_asked_length(headers, framing, Kind::Opaque));
    let headers = assert_streamed(&pki, &exporter, Kind::Opaque);
    assert_eq!(value(&headers, "content-encoding"), Some("gzip"));
}

#[test]
fn a_large_body_of_an_https_exporter_arrives_whole_with_memory_flat() {
    let pki = Pki::new();
    let script = body_of_the_asked_length("", Framing::Chunked(4096), Kind::Text);
    let exporter = Exporter::start_tls(&pki, script);
    assert_streamed(&pki, &exporter, Kind::Text);
}

#[test]
fn a_large_body_of_an_exporter_on_a_unix_socket_arrives_whole_with_memory_flat() {
    let pki = Pki::new();
    let script = body_of_the_asked_length("", Framing::Chunked(4096), Kind::Text);
    let exporter = Exporter::start_on_unix_socket(script);
    assert_streamed(&pki, &exporter, Kind::Text);
}
