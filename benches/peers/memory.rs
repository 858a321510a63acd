//! Peak memory and start time. Each is measured with fresh processes.

use std::{thread, time::Duration};

use scrapegate_harness::side_by_side::{credentials::Credentials, network::Place};

use crate::{
    Result,
    exporter::Exporter,
    figures::{Figure, Figures, milliseconds},
    floor,
    peer::Peer,
    scraper::Scraper,
    workload::source,
};

/// Scrapers that stop reading.
const SLOW_READERS: usize = 256;

/// Long enough to fill every buffer between exporter and scraper.
const SETTLE: Duration = Duration::from_secs(3);

/// Number of starts of each peer.
const STARTS: usize = 9;

/// The names of the rows.
pub(crate) const IDLE: &str = "memory-idle";
pub(crate) const LARGE: &str = "memory-100m";
pub(crate) const STALLED: &str = "memory-stalled";
pub(crate) const START: &str = "start";

const MIB: f64 = 1024.0 * 1024.0;

/// Measures peak memory: after the start, after a scrape of 100 MiB, and with many slow readers.
pub(crate) fn measure(
    peers: &[Peer],
    place: &Place,
    exporter: &Exporter,
    credentials: &Credentials,
    figures: &mut Figures,
) -> Result<()> {
    let tls = credentials.scraper()?;
    for peer in one_floor(peers) {
        eprintln!("memory of {}", peer.name());
        let mut add = |row, bytes: u64| {
            figures.add(row, peer.column(), Figure::PeakMemory, bytes as f64 / MIB);
        };
        let running = peer.start(place, exporter, credentials)?;
        thread::sleep(Duration::from_millis(500));
        add(IDLE, running.processes.peak_memory()?);

        let path = peer.path(source("chunked-100m"));
        Scraper::connect(running.address, Some(&tls))?.scrape(&path)?;
        add(LARGE, running.processes.peak_memory()?);
        drop(running);

        let running = peer.start(place, exporter, credentials)?;
        let path = peer.path(source("stalled-200m"));
        let mut stalled = Vec::with_capacity(SLOW_READERS);
        for _ in 0..SLOW_READERS {
            let mut scraper = Scraper::connect(running.address, Some(&tls))?;
            scraper.ask(&path)?;
            stalled.push(scraper);
        }
        thread::sleep(SETTLE);
        add(STALLED, running.processes.peak_memory()?);
    }
    Ok(())
}

/// Measures the time from the start of the program to its first accepted connection.
pub(crate) fn time_starts(
    peers: &[Peer],
    place: &Place,
    exporter: &Exporter,
    credentials: &Credentials,
    figures: &mut Figures,
) -> Result<()> {
    for _ in 0..STARTS {
        for peer in one_floor(peers) {
            let running = peer.start(place, exporter, credentials)?;
            let started_in = milliseconds(running.processes.started_in);
            figures.add(START, peer.column(), Figure::Start, started_in);
        }
    }
    Ok(())
}

/// The floor program needs the least memory with its smallest read.
fn one_floor(peers: &[Peer]) -> impl Iterator<Item = &Peer> {
    let smallest = floor::READ_SIZES.into_iter().min();
    peers
        .iter()
        .filter(move |peer| peer.floor_read_size().is_none() || peer.floor_read_size() == smallest)
}
