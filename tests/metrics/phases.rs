//! The phases of a scrape distinguish a slow exporter from a slow scraper.

use std::{thread, time::Duration};

use scrapegate_harness::{
    client::Client,
    exporter::{Conversation, Exporter},
    pki::Pki,
};

use crate::setup::Setup;

const PHASES: [&str; 4] = ["connect", "first_byte", "read_wait", "write_wait"];

/// The delay of the slow side. The phases measure this time; it waits for nothing.
const WAIT: Duration = Duration::from_secs(1);

/// More bytes than fit into all buffers between exporter and scraper.
const LONG: usize = 16 << 20;

/// Scrapes the exporter whose name is the slow phase. `reads` is what the scraper does.
fn assert_slow_in(phase: &str, setup: &Setup, reads: impl FnOnce(&mut Client)) {
    let mut client = setup.connect();
    client.send_get(&format!("/prometheus?exporter={phase}")).expect("sent");
    reads(&mut client);
    let series = |name: &str| format!("scrapegate_scrape_{name}{{exporter=\"{phase}\"");
    let total = format!("{}}}", series("duration_seconds_sum"));
    let samples = setup.wait_for("the scrape", |samples| samples.value(&total) > 0.0);
    let spent =
        |phase| samples.value(&format!("{},phase=\"{phase}\"}}", series("phase_seconds_sum")));
    let (slow, whole) = (spent(phase), samples.value(&total));
    // On a busy machine, the proxy may start to measure slightly after the other side starts to
    // wait.
    assert!(slow >= 0.8 * WAIT.as_secs_f64(), "{phase}: {slow} s of {whole} s");
    for other in PHASES.iter().filter(|other| **other != phase) {
        assert!(spent(other) < slow, "{phase}: {slow} s, {other}: {} s", spent(other));
    }
    let all: f64 = PHASES.iter().map(|phase| spent(phase)).sum();
    assert!(all <= whole, "{phase}: the phases last {all} s, the scrape {whole} s");
    for phase in PHASES {
        let count = format!("{},phase=\"{phase}\"}}", series("phase_seconds_count"));
        assert_eq!(samples.value(&count), 1.0, "{phase}");
    }
}

fn read_all(client: &mut Client) {
    let response = client.read_response().expect("a response");
    assert!(response.head.status == 200 && response.body.is_complete(), "{response:?}");
}

/// An exporter that waits in the phase named in the request's path, and then answers.
fn slow(it: &mut Conversation) -> std::io::Result<()> {
    let request = it.read_request()?;
    if request.contains("/first_byte ") {
        thread::sleep(WAIT);
    }
    if request.contains("/write_wait ") {
        // The body is created before it is sent. On a busy machine the proxy would otherwise wait
        // for its creation.
        it.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"))?;
        return it.send(vec![b'\n'; LONG]);
    }
    it.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nup 1\n")?;
    if request.contains("/read_wait ") {
        thread::sleep(WAIT);
    }
    it.send("up 1\n")
}

/// A proxy with an exporter for each phase that the exporter's response, or the reading of it,
/// makes slow.
fn setup() -> Setup {
    let exporter = Exporter::start(slow);
    let section = |phase| exporter.section(phase).replace("/metrics", &format!("/{phase}"));
    let sections = PHASES.map(section).concat();
    Setup::before(Pki::new(), exporter, "", &sections)
}

#[test]
fn a_slow_connection_to_the_exporter_is_counted_in_connect() {
    let pki = Pki::new();
    let exporter = Exporter::start_tls(&pki, |it: &mut Conversation| {
        // The exporter's side of the handshake runs with its first read.
        thread::sleep(WAIT);
        it.read_request()?;
        it.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nup 1\n")?;
        it.send("up 1\n")
    });
    let keys = "interval = 60\ntimeout = 60\nconnect-timeout = 60\n";
    let sections = exporter.section("connect") + keys;
    let setup = Setup::before(pki, exporter, "", &sections);
    assert_slow_in("connect", &setup, read_all);
}

#[test]
fn a_slow_first_byte_is_counted_in_first_byte() {
    assert_slow_in("first_byte", &setup(), read_all);
}

#[test]
fn an_exporter_that_pauses_in_the_body_is_counted_in_read_wait() {
    assert_slow_in("read_wait", &setup(), read_all);
}

#[test]
fn a_slow_scraper_is_counted_in_write_wait() {
    assert_slow_in("write_wait", &setup(), |client| {
        let head = client.read_head().expect("a head");
        thread::sleep(WAIT);
        assert!(client.read_body(&head).is_complete());
    });
}
