//! The cost of scrapers that stop reading or read slowly: bounded memory for each, independent of
//! the body size, and no delay for other scrapers.
//!
//! These tests do not measure the kernel's socket buffers.

use std::{
    io::{self, Read},
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use scrapegate_harness::{
    PATIENCE,
    body::{Body, Kind},
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

const READERS: u64 = 128;
const BODY: u64 = 200_000_000;
/// Send buffer of each exporter socket, in bytes. With the default size, hundreds of sockets would
/// use up the kernel's memory for TCP (`tcp_mem`).
const SEND_BUFFER: usize = 64 * 1024;
/// The bound in docs/operations/performance.md: at most 0.3 MiB for each scrape.
const KIB_A_SCRAPE: u64 = 3 * 1024 / 10;
/// The bound there if the scraper has stopped at the beginning, and nothing is filtered.
const KIB_STOPPED: u64 = 80;

fn assert_bounded(framing: Framing) {
    assert_body_bounded(framing, Kind::Text, (READERS, KIB_STOPPED), 0, "");
}

/// `readers` scrapers stop reading after `read` bytes, and each may cost `most_kib`. `keys` is added
/// to the section of the exporter.
fn assert_body_bounded(
    framing: Framing,
    kind: Kind,
    (readers, most_kib): (u64, u64),
    read: usize,
    keys: &str,
) {
    let pki = Pki::new();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.bound_send_buffer(SEND_BUFFER)?;
        conversation.answer("", framing, Body::new(kind, BODY))
    });
    let section =
        exporter.section("large") + "interval = 300\ntimeout = 300\nmax-concurrent = 999\n" + keys;
    let proxy = Proxy::start(&pki.config_ini("stall-timeout = 300\n"), &section);
    let connect = || {
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        client.send_get("/prometheus?exporter=large").expect("the request is sent");
        client.read_head().expect("a response head");
        let mut left = read;
        while left > 0 {
            left -= client.read_some(left).expect("more of the body");
        }
        client
    };

    // The first scrape allocates what the process needs only once: threads, the allocator's arenas.
    let _first = connect();
    let before = proxy.settled_rss_kib();
    let clients: Vec<Client> = (0..readers).map(|_| connect()).collect();
    let each = (proxy.settled_rss_kib() - before) / readers;
    drop(clients);
    assert!(each <= most_kib, "{each} KiB for each scraper that stopped reading");
    assert!(each >= 16, "only {each} KiB each: the scrapers have not stopped yet");
}

#[test]
fn a_scraper_that_stops_reading_a_chunked_body_costs_bounded_memory() {
    assert_bounded(Framing::Chunked(4096));
}

#[test]
fn a_scraper_that_stops_reading_small_chunks_costs_bounded_memory() {
    // More chunks than one vectored write takes, and some too small to be passed on without a copy.
    assert_bounded(Framing::Chunked(2048));
    assert_bounded(Framing::Chunked(100));
}

#[test]
fn a_scraper_that_stops_reading_a_body_with_content_length_costs_bounded_memory() {
    assert_bounded(Framing::ContentLength);
}

/// A fast scraper gets the largest batches.
#[test]
fn scrapers_that_stop_after_a_fast_beginning_cost_bounded_memory() {
    for framing in [Framing::Chunked(4096), Framing::ContentLength] {
        assert_body_bounded(framing, Kind::Text, (32, KIB_A_SCRAPE), 8 << 20, "");
    }
}

#[test]
fn thirty_two_scrapers_that_stop_reading_a_filtered_body_cost_bounded_memory() {
    for drop in ["left_.*", "no_such_family"] {
        let keys = format!("metrics-drop = {drop}\n");
        assert_body_bounded(Framing::Chunked(4096), Kind::Families, (32, KIB_A_SCRAPE), 0, &keys);
    }
}

#[test]
fn scrapers_that_stop_reading_a_few_families_of_many_cost_bounded_memory() {
    // 2 KiB of each 200 KiB, so a batch of what is kept comes from many reads.
    let keys = "metrics-keep = .*_..00_seconds\n";
    assert_body_bounded(Framing::Chunked(4096), Kind::Families, (8, KIB_A_SCRAPE), 0, keys);
}

/// D03
#[test]
fn a_thousand_slow_readers_cost_bounded_memory_and_delay_nobody() {
    const MANY: usize = 1000;
    const MOST_KIB: u64 = 256 * 1024;
    /// Longer than the usual 5 s, because the exporters' threads, also a thousand, compete for the
    /// processor.
    const REST: Duration = if cfg!(debug_assertions) { PATIENCE } else { Duration::from_secs(5) };
    // Two descriptors for each reader are in the test's own process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        let length = if conversation.read_request()?.contains("large") { BODY } else { 10_000 };
        conversation.bound_send_buffer(SEND_BUFFER)?;
        conversation.answer("", Framing::Chunked(4096), Body::text(length))
    });
    let section = exporter.section("e") + "interval = 300\ntimeout = 300\nmax-concurrent = 2000\n";
    let config = pki.config_ini("stall-timeout = 300\nmax-connections-per-ip = 2000\n");
    let proxy = Proxy::start(&config, &section);
    let connect =
        || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let fds = proxy.open_fds();
    let begin = || {
        let mut client = connect();
        client.send_get("/prometheus?exporter=e&large").expect("the request is sent");
        client.read_head().expect("a response head");
        client
    };
    let readers: Vec<Client> = (0..MANY).map(|_| begin()).collect();

    let mut times = thread::scope(|scope| {
        let control = scope.spawn(|| {
            let mut control = connect();
            let times = (0..200).map(|_| {
                let begun = Instant::now();
                let response = control.get("/prometheus?exporter=e");
                assert!(response.body.is_complete(), "{response:?}");
                begun.elapsed()
            });
            times.collect::<Vec<Duration>>()
        });
        // Reads below TLS: only the few bytes that each read frees in the socket matter.
        for client in readers.iter().cycle().take_while(|_| !control.is_finished()) {
            match client.socket().read(&mut [0; 2048]) {
                // The process was stopped and continued.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    assert!(read.expect("more of the body") > 0, "a slow reader was disconnected")
                }
            }
            // The pace of the slow readers: each reads 2 KiB about once a second.
            thread::sleep(Duration::from_millis(1));
        }
        control.join().expect("no panic")
    });
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(250), "{p99:?} for a control scrape: {times:?}");
    let peak = proxy.peak_rss_kib();
    assert!(peak <= MOST_KIB, "{peak} KiB");
    drop(readers);
    proxy.assert_at_rest_within(REST, fds);

    // The workers give most of the memory back one second after the last connection. A second wave
    // must not add to what remains. Memory has no event to wait for, so this polls.
    let kept = proxy.settled_rss_kib();
    drop((0..MANY / 5).map(|_| begin()).collect::<Vec<_>>());
    proxy.assert_at_rest_within(REST, fds);
    let begun = Instant::now();
    loop {
        let grown = proxy.rss_kib().saturating_sub(kept);
        if grown <= 8 * 1024 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{grown} KiB more than after the first thousand");
        thread::sleep(Duration::from_millis(50));
    }
}
