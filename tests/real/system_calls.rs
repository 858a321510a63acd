//! How many system calls a large scrape needs to send its bytes, and how often it wakes other threads.
//!
//! strace counts the calls. Under strace each call is slower, so the next call finds more data. A busy
//! machine adds calls, because the exporter falls behind. So the tests use the lowest count of three
//! scrapes. The kernel counts the waits of each thread, without strace.

#![expect(
    clippy::print_stdout,
    reason = "the counts are worth reading in the log of a passed run too"
)]

use std::time::Instant;

use scrapegate_harness::{
    body::{Body, Kind},
    client::{Client, Response},
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
    strace,
};

const MIB: u64 = 100;
const SCRAPES: usize = 3;

/// If batches stay at 64 KiB, a scrape needs 16.
const WRITES_PER_MIB: u64 = 12;

/// One thread accepts the connection, and another writes the log record. If each worker has tokio's
/// multi-threaded runtime, other threads wait more than 50 times.
const WAITS_OF_OTHER_THREADS: u64 = 8;

/// The calls that send bytes to a TCP socket. `write` is used only for eventfds, signals and the log.
const WRITES: [&str; 3] = ["writev", "sendto", "sendmsg"];

#[test]
fn a_large_chunked_scrape_needs_few_writes() {
    let counts: Vec<u64> = (0..SCRAPES).map(|_| writes_of_a_scrape()).collect();
    println!("writes for {MIB} MiB in chunks of 4 KiB: {counts:?}");
    let fewest = counts.into_iter().min().expect("a scrape");
    assert!(fewest >= MIB / 4, "strace has not seen the scrape");
    assert!(fewest <= WRITES_PER_MIB * MIB, "{fewest} writes for {MIB} MiB");
}

/// Scrapes a new proxy once under strace, and returns its number of writes.
fn writes_of_a_scrape() -> u64 {
    let pki = Pki::new();
    let (_exporter, exporters) = exporter();
    let calls = strace::system_calls(&pki.config_ini(""), &exporters, |proxy| {
        let response = scrape(&pki, proxy);
        assert_eq!(response.body.sha256, Body::sha256(Kind::Text, MIB << 20));
    });
    WRITES.iter().filter_map(|name| calls.get(*name)).sum()
}

#[test]
fn a_large_scrape_rarely_wakes_other_threads() {
    let pki = Pki::new();
    let (_exporter, exporters) = exporter();
    let proxy = Proxy::start(&pki.config_ini("worker-threads = 4\n"), &exporters);
    // During the first scrape, threads may still be starting.
    let counts: Vec<u64> = (0..SCRAPES).map(|_| waits_of_other_threads(&pki, &proxy)).collect();
    println!("waits of other threads for {MIB} MiB: {counts:?}");
    let fewest = counts.into_iter().min().expect("a scrape");
    assert!(fewest <= WAITS_OF_OTHER_THREADS, "{fewest} waits of other threads");
}

/// Scrapes once. Returns how often all threads have waited, except the one that has waited most often.
fn waits_of_other_threads(pki: &Pki, proxy: &Proxy) -> u64 {
    let (begun, before) = (Instant::now(), proxy.waits_of_threads());
    scrape(pki, proxy);
    let after = proxy.waits_of_threads();
    // The accepting thread looks for expired certificates once a second.
    let timers = begun.elapsed().as_secs() + 1;

    let before = |thread| before.get(thread).copied().unwrap_or_default();
    let waits = after.iter().map(|(thread, count)| count.saturating_sub(before(thread)));
    let mut waits: Vec<u64> = waits.collect();
    waits.sort_unstable();
    let worker = waits.pop().expect("a thread");
    assert!(worker > 0, "the kernel has not counted the waits of the worker");
    waits.iter().sum::<u64>().saturating_sub(timers)
}

/// An exporter with a large body in chunks of 4 KiB, and its section.
fn exporter() -> (Exporter, String) {
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::Chunked(4096), Body::text(MIB << 20))
    });
    let section = exporter.section("large") + "interval = 300\ntimeout = 300\n";
    (exporter, section)
}

fn scrape(pki: &Pki, proxy: &Proxy) -> Response {
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let response = client.get("/prometheus?exporter=large");
    assert!(response.body.is_complete(), "{response:?}");
    response
}
