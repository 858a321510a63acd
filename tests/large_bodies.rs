//! 200 MB through the real binary over mutual TLS: the body arrives unchanged and memory stays
//! flat.
//!
//! These tests do not measure speed or the cost of a slow scraper.

use scrapegate_harness::{
    body::{Body, Kind},
    client::Client,
    exporter::{Conversation, Exporter, Framing, Script},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// Size of the first scrape, which lets the proxy allocate what it needs for any scrape.
const WARM_UP: u64 = 1_000_000;
const LARGE: u64 = 200_000_000;
/// The largest allowed growth of peak resident memory between the small scrape and the large one.
const FLAT_KIB: u64 = 8 * 1024;

/// Answers with as many bytes as the request's parameter `bytes` says.
fn body_of_the_asked_length(headers: &'static str, framing: Framing, kind: Kind) -> impl Script {
    move |conversation: &mut Conversation| {
        let request = conversation.read_request()?;
        let (_, rest) = request.split_once("bytes=").expect("a forwarded parameter");
        let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
        let len = digits.and_then(|it| it.parse().ok()).expect("a number");
        conversation.answer(headers, framing, Body::new(kind, len))
    }
}

/// Scrapes a small body and a large one through a new proxy; checks the hash, the end and the
/// memory.
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
    // Linux reports the larger of the current size and a peak that it updates only occasionally. A
    // later report can therefore be lower than an earlier one.
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
fn a_large_close_delimited_body_arrives_whole_with_memory_flat() {
    let pki = Pki::new();
    let framing = Framing::UntilClose;
    let exporter = Exporter::start(body_of_the_asked_length("", framing, Kind::Text));
    let headers = assert_streamed(&pki, &exporter, Kind::Text);
    assert_eq!(value(&headers, "transfer-encoding"), Some("chunked"));
}

#[test]
fn a_large_gzip_body_arrives_unchanged_with_memory_flat() {
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
