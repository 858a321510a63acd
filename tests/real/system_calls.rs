//! The number of system calls of a large scrape, counted by strace.
//!
//! This does not measure time. Under strace each call is slower, so that the next call finds more
//! data.

use std::{collections::BTreeMap, fs};

use scrapegate_harness::{
    body::{Body, Kind},
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use tempfile::TempDir;

const MIB: u64 = 100;
const WRITES_PER_MIB: u64 = 8;
const WAKE_UPS_PER_MIB: u64 = 1;

/// The calls that send bytes.
const WRITES: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
/// The calls by which one thread wakes another. `write` writes to an eventfd; sockets use `writev`,
/// `sendto` and `sendmsg`.
const WAKE_UPS: [&str; 2] = ["futex", "write"];

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the counts are worth reading in the log of a passed run too"
)]
fn a_large_chunked_scrape_needs_few_writes_and_wake_ups() {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::Chunked(4096), Body::text(MIB << 20))
    });
    let exporters = exporter.section("large") + "interval = 300\ntimeout = 300\n";

    let folder = TempDir::with_prefix("scrapegate-strace-").expect("a temporary folder");
    let summary = folder.path().join("summary");
    let strace = ["strace", "-f", "-c", "-o"].map(Into::into);
    let wrapper = [&strace[..], &[summary.clone().into()]].concat();
    let mut proxy = Proxy::start_beneath(&wrapper, &pki.config_ini(""), &exporters);

    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let response = client.get("/prometheus?exporter=large");
    assert!(response.body.is_complete(), "{response:?}");
    assert_eq!(response.body.sha256, Body::sha256(Kind::Text, MIB << 20));
    drop(client);
    proxy.signal("TERM");
    proxy.wait_exit();

    let summary = fs::read_to_string(summary).expect("strace wrote its summary");
    let calls = calls_by_name(&summary);
    let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|it| calls.get(*it)).sum() };
    let (writes, wake_ups) = (sum(&WRITES), sum(&WAKE_UPS));
    println!("{MIB} MiB in chunks of 4 KiB: {writes} writes, {wake_ups} wake-ups\n{summary}");

    assert!(writes >= MIB / 4, "strace has not seen the scrape");
    assert!(writes <= WRITES_PER_MIB * MIB, "{writes} writes for {MIB} MiB\n{summary}");
    assert!(wake_ups <= WAKE_UPS_PER_MIB * MIB, "{wake_ups} wake-ups for {MIB} MiB\n{summary}");
}

/// Reads strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn calls_by_name(summary: &str) -> BTreeMap<&str, u64> {
    summary
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (calls, name) = (columns.get(3)?, columns.last()?);
            Some((*name, calls.parse().ok()?))
        })
        .collect()
}
