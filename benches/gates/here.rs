//! Counts that are measured in this process: allocations, reads and writes of the streams, TLS
//! records, polls and wake-ups.

use std::{alloc::System, sync::Arc};

use scrapegate_harness::{
    in_memory::{counted::Pace, rig::Rig, tls::Records},
    loopback,
    message::Message,
    pki::{BOTH_VERSIONS, Pki},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::{
    baseline::Counts,
    scenarios::{RELAYED, Relayed, SCENARIOS, Scenario},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The two sizes in MiB whose counts are subtracted.
const FEW: usize = 8;
const MANY: usize = 24;

/// Counts the allocations of each scenario, and their bytes.
pub(crate) fn allocations(counts: &mut Counts) {
    for scenario in SCENARIOS {
        let (few, many) = scenario.times;
        let difference =
            |(less, more): (usize, usize)| more.saturating_sub(less) as f64 / (many - few) as f64;
        let (less, more) = (allocated(scenario, few), allocated(scenario, many));
        counts.add("allocations", scenario.name, difference((less.0, more.0)));
        counts.add("bytes allocated", scenario.name, difference((less.1, more.1)));
    }
}

/// The number of allocations and reallocations, and the number of bytes.
fn allocated(scenario: Scenario, times: usize) -> (usize, usize) {
    let work = scenario.prepare(times);
    // Initializes everything that exists once per process.
    scenario.prepare(1)();
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

/// Counts reads, writes and records of scrapes over TLS. Each read or write of a stream corresponds
/// to one system call on a socket that always has bytes and accepts all bytes.
pub(crate) fn over_tls(counts: &mut Counts) {
    let pki = Pki::new();
    let server = loopback::load(&pki, 1).tls();
    let client = pki.client(&BOTH_VERSIONS[..1]);
    for relayed in RELAYED {
        let count = |mib| {
            let rig = rig(relayed, mib, Pace::AtOnce);
            let records = Arc::new(Records::default());
            rig.scrape_over_tls(&server, &client, &records);
            let not_full = records.all() - records.full();
            [rig.exporter.reads(), rig.scraper.writes(), records.all(), not_full]
        };
        let [reads, writes, records, not_full] = per_mib(count);
        let name = format!("per MiB of {}", relayed.0);
        counts.add("reads of the exporter", &name, reads);
        counts.add("writes to the scraper", &name, writes);
        counts.add("TLS records", &name, records);
        let share = 100.0 * not_full / records;
        counts.add("percent of TLS records that are not full:", relayed.0, share);
    }
}

/// Counts polls and wake-ups of the connection's task, with an exporter that never pauses, and with
/// one that pauses after each 64 KiB.
pub(crate) fn tasks(counts: &mut Counts) {
    for (pace, of) in
        [(Pace::AtOnce, "without pauses"), (Pace::Bursts(64 * 1024), "in bursts of 64 KiB")]
    {
        for relayed in &RELAYED[..3] {
            let count = |mib| {
                let rig = rig(*relayed, mib, pace);
                rig.scrape();
                [rig.polls(), rig.wakes.get()]
            };
            let [polls, wakes] = per_mib(count);
            let name = format!("per MiB of {}, {of}", relayed.0);
            counts.add("polls", &name, polls);
            counts.add("wake-ups", &name, wakes);
        }
    }
}

fn rig((_, kind, framing): Relayed, mib: usize, pace: Pace) -> Rig {
    Rig::new(Message::new(kind, framing, mib << 20), pace)
}

fn per_mib<const N: usize>(count: impl Fn(usize) -> [usize; N]) -> [f64; N] {
    let (few, many) = (count(FEW), count(MANY));
    std::array::from_fn(|i| many[i].saturating_sub(few[i]) as f64 / (MANY - FEW) as f64)
}
