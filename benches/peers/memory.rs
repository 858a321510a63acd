//! Memory and start time. Each is measured with fresh processes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use scrapegate_harness::side_by_side::{
    numbers::milliseconds,
    programs::{Program, Running},
    scraper::Scraper,
};

use crate::{
    Result, Stage,
    figures::{Figure, Figures},
    floor,
    peer::{Kind, Peer},
    workload::source,
};

/// Scrapers that stop reading.
const SLOW_READERS: usize = 256;

/// Scrapers that stop reading, and then leave.
const LEAVING_READERS: usize = 1000;

/// The time within which memory must return.
const REST: Duration = Duration::from_secs(5);

/// Long enough to fill every buffer between exporter and scraper.
const SETTLE: Duration = Duration::from_secs(3);

/// Number of starts of each peer.
const STARTS: usize = 9;

/// The names of the rows.
pub(crate) const IDLE: &str = "memory-idle";
pub(crate) const LARGE: &str = "memory-100m";
pub(crate) const STALLED: &str = "memory-stalled";
pub(crate) const EACH: &str = "memory-each-stalled";
pub(crate) const KEPT: &str = "memory-kept";
pub(crate) const START: &str = "start";

const MIB: f64 = 1024.0 * 1024.0;

/// Measures memory: after the start, after a scrape of 100 MiB, with many slow readers, and after
/// they have left.
pub(crate) fn measure(stage: &Stage<'_>, figures: &mut Figures) -> Result<()> {
    let tls = stage.credentials.scraper()?;
    for peer in distinct(stage.peers) {
        eprintln!("memory of {}", peer.name());
        let mut add = |row, bytes: u64| {
            figures.add(row, peer.column(), Figure::PeakMemory, bytes as f64 / MIB);
        };
        let running = stage.start(peer)?;
        thread::sleep(Duration::from_millis(500));
        add(IDLE, running.processes.peak_memory()?);

        let path = peer.path(source("chunked-100m"));
        Scraper::connect(running.address, Some(&tls))?.scrape(&path)?;
        add(LARGE, running.processes.peak_memory()?);
        drop(running);

        let running = stage.start(peer)?;
        let path = peer.path(source("stalled-200m"));
        let stalled = stalled_readers(SLOW_READERS, &running, &path, &tls)?;
        add(STALLED, running.processes.peak_memory()?);
        drop((stalled, running));

        let running = stage.start(peer)?;
        let small = peer.path(source("small"));
        Scraper::connect(running.address, Some(&tls))?.scrape(&small)?;
        let before = running.processes.memory()?;
        let stalled = match stalled_readers(LEAVING_READERS, &running, &path, &tls) {
            Ok(stalled) => stalled,
            Err(error) if !peer.is_ours() => {
                eprintln!("FAILED: {} with {LEAVING_READERS} readers: {error}", peer.name());
                continue;
            }
            Err(error) => return Err(error),
        };
        let with = running.processes.memory()?;
        add(EACH, with.saturating_sub(before) / LEAVING_READERS as u64);
        drop(stalled);
        add(KEPT, memory_at_rest(&running)?.saturating_sub(before));
    }
    Ok(())
}

/// Scrapers that have read the first bytes of a body and stopped. Every buffer is full.
fn stalled_readers(
    count: usize,
    running: &Running,
    path: &str,
    tls: &Arc<ClientConfig>,
) -> Result<Vec<Scraper>> {
    let mut stalled = Vec::with_capacity(count);
    for _ in 0..count {
        let mut scraper = Scraper::connect(running.address, Some(tls))?;
        scraper.ask(path)?;
        stalled.push(scraper);
    }
    thread::sleep(SETTLE);
    Ok(stalled)
}

/// The least resident memory within [`REST`].
fn memory_at_rest(running: &Running) -> Result<u64> {
    let begun = Instant::now();
    let mut least = u64::MAX;
    while begun.elapsed() < REST {
        least = least.min(running.processes.memory()?);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(least)
}

/// Measures the time from the start of the program to its first accepted connection.
pub(crate) fn time_starts(stage: &Stage<'_>, figures: &mut Figures) -> Result<()> {
    for _ in 0..STARTS {
        for peer in distinct(stage.peers) {
            let running = stage.start(peer)?;
            let started_in = milliseconds(running.processes.started_in);
            figures.add(START, peer.column(), Figure::Start, started_in);
        }
    }
    Ok(())
}

/// The peers without those that would repeat a column. The floor program needs the least memory with
/// its smallest read. How nginx connects does not matter.
fn distinct(peers: &[Peer]) -> impl Iterator<Item = &Peer> {
    let smallest = floor::READ_SIZES.into_iter().min();
    peers.iter().filter(move |peer| match peer.kind {
        Kind::Floor { read_size } => Some(read_size) == smallest,
        Kind::Program(Program::Nginx { upstream_keep_alive: false }) => false,
        Kind::Program(_) => true,
    })
}
