//! The effect on scrapes of a flood of handshakes with an RSA-4096 certificate, the most expensive
//! kind.

use std::{
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    flood,
    hello::{AES_128_GCM, ECDHE_RSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

const A_SECOND: u32 = 500;
const LASTS: Duration = Duration::from_secs(5);

/// The median, the 99th percentile and the longest, in milliseconds.
fn spread(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    [at(50), at(99), at(100)].map(|time| time.as_secs_f64() * 1e3)
}

/// The durations of scrapes over an open connection, one after the other, until `over` returns
/// true. The pause of 5 ms between them leaves the processor to the flood.
fn scrapes(client: &mut Client, over: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over(times.len()) {
        let begun = Instant::now();
        let response = client.get("/prometheus?exporter=e");
        assert!(response.body.is_complete(), "{response:?}");
        times.push(begun.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    times
}

/// D14
#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figures are worth reading in the log of a passed run too"
)]
fn a_flood_of_expensive_handshakes_fails_no_scrape() {
    let pki = Pki::new();
    pki.replace_server_by_rsa_4096();
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(20_000))
    });
    let proxy = Proxy::start(&pki.config_ini(""), &exporter.section("e"));
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let alone = spread(scrapes(&mut client, |count| count == 100));
    let hellos = [
        client_hello(TLS_1_2, &[ECDHE_RSA_AES_128_GCM], None),
        client_hello(TLS_1_3, &[AES_128_GCM], None),
    ];
    let (address, cpu) = (proxy.address(), proxy.cpu_time());
    let (times, sent) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood::of_hellos(address, &hellos, A_SECOND, LASTS));
        let times = scrapes(&mut client, |_| flood.is_finished());
        (times, flood.join().expect("no panic"))
    });
    let (cpu, count) = (proxy.cpu_time() - cpu, times.len());
    let beside = spread(times);
    println!(
        "{sent} hellos in {LASTS:?}, {cpu:?} of CPU; a scrape in ms (median, p99, longest): \
         alone {alone:.1?}, beside them {beside:.1?} ({count} scrapes)"
    );
    assert!(sent > 200, "{sent} handshakes are not a flood");
    // Without fair turns, each scrape would wait for all pending handshakes, and only five would
    // succeed in five seconds.
    assert!(count > 30, "only {count} scrapes during {sent} handshakes");
}
