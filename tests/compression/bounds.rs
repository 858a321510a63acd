//! Many compressed scrapes at a time: a bounded number, and bounded memory for each.

use scrapegate_harness::{
    body::{Body, Kind},
    client::{Client, Head},
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The default of `max-compressions`.
const MOST: usize = 32;
const BODY: u64 = 400_000_000;
/// Send buffer of each exporter socket, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// The bound in docs/operations/performance.md: at most 1 MiB for each compressed scrape.
const KIB_A_SCRAPE: u64 = 1024;

fn encoding(head: &Head) -> Option<&str> {
    head.header("content-encoding")
}

/// Scrapers of `coding` stop reading. `keys` is added to the section of the exporter.
fn assert_bounded(coding: &str, kind: Kind, keys: &str) {
    let pki = Pki::new();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.bound_send_buffer(SEND_BUFFER)?;
        conversation.answer(
            "Content-Type: text/plain\r\n",
            Framing::Chunked(4096),
            Body::new(kind, BODY),
        )
    });
    let section = exporter.section("large")
        + "interval = 300\ntimeout = 300\nmax-concurrent = 99\ncompression = always\n"
        + keys;
    let proxy = Proxy::start(&pki.config_ini("stall-timeout = 300\n"), &section);
    let connect = || {
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        let request = "GET /prometheus?exporter=large HTTP/1.1\r\nHost: h\r\n";
        client.send(format!("{request}Accept-Encoding: {coding}\r\n\r\n")).expect("sent");
        let head = client.read_head().expect("a response head");
        (client, head)
    };

    // The first scrape allocates what the process needs only once: threads, the allocator's arenas.
    let first = connect();
    let before = proxy.settled_rss_kib();
    let mut readers = vec![first];
    readers.extend((1..MOST).map(|_| connect()));
    for (_, head) in &readers {
        assert_eq!(encoding(head), Some(coding), "{head:?}");
    }
    let each = (proxy.settled_rss_kib() - before) / (MOST as u64 - 1);
    let (_next, uncompressed) = connect();
    assert_eq!(encoding(&uncompressed), None, "{uncompressed:?}");
    assert!(each <= KIB_A_SCRAPE, "{each} KiB for each scraper that stopped reading");
    assert!(each >= 100, "only {each} KiB each: the scrapers have not stopped yet");

    // A scrape that ends makes room for another.
    drop(readers.pop());
    proxy.wait_for_log("the end of a scrape", |record| {
        record["fields"]["message"] == "scrape" && record["fields"]["encoding"] == coding
    });
    let (_again, compressed) = connect();
    assert_eq!(encoding(&compressed), Some(coding), "{compressed:?}");
}

#[test]
fn thirty_two_slow_readers_of_zstd_cost_bounded_memory_and_the_next_one_is_not_compressed() {
    assert_bounded("zstd", Kind::Text, "");
}

#[test]
fn thirty_two_slow_readers_of_gzip_cost_bounded_memory_and_the_next_one_is_not_compressed() {
    assert_bounded("gzip", Kind::Text, "");
}

#[test]
fn thirty_two_slow_readers_of_a_filtered_and_compressed_answer_cost_bounded_memory() {
    for coding in ["zstd", "gzip"] {
        assert_bounded(coding, Kind::Families, "metrics-drop = left_.*\n");
    }
}
