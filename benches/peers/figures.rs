//! The measured values, and their medians.

use std::{collections::BTreeMap, time::Duration};

use scrapegate_harness::side_by_side::{
    numbers::{median, milliseconds, quantile},
    scraper::Scraped,
};

use crate::{
    peer::{FLOOR, Peer},
    workload::WORKLOADS,
};

/// A kind of value in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// CPU seconds, user and system, per 10^9 bytes of body.
    CpuPerGigabyte,
    /// CPU microseconds, user and system, per scrape.
    CpuPerScrape,
    /// Seconds in which the machine's cores were busy, for exporter, proxy, scraper and kernel
    /// together, per 10^9 bytes of body.
    BusyPerGigabyte,
    /// Microseconds in which the machine's cores were busy, per scrape.
    BusyPerScrape,
    /// 10^6 bytes of body per second.
    Throughput,
    /// Duration of a scrape in milliseconds, the median of a round.
    MedianTime,
    /// Duration of a scrape in milliseconds, the 99th percentile of a round.
    P99Time,
    /// Time to the first byte of the body in milliseconds, the median of a round.
    FirstByte,
    /// Peak resident memory of all processes, in MiB.
    PeakMemory,
    /// Time from the start to the first accepted connection, in milliseconds.
    Start,
    /// The time of the slowest connection, divided by that of the fastest.
    Fairness,
    /// Size of one read of the best floor, in KiB.
    ReadSize,
}

impl Figure {
    /// The key in the JSON file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::CpuPerGigabyte => "cpu_seconds_per_gigabyte",
            Self::CpuPerScrape => "cpu_microseconds_per_scrape",
            Self::BusyPerGigabyte => "busy_seconds_per_gigabyte",
            Self::BusyPerScrape => "busy_microseconds_per_scrape",
            Self::Throughput => "megabytes_per_second",
            Self::MedianTime => "median_milliseconds",
            Self::P99Time => "p99_milliseconds",
            Self::FirstByte => "first_byte_milliseconds",
            Self::PeakMemory => "peak_mebibytes",
            Self::Start => "start_milliseconds",
            Self::Fairness => "slowest_by_fastest",
            Self::ReadSize => "read_kibibytes",
        }
    }
}

/// One round of one workload through one peer.
pub(crate) struct Round {
    /// CPU time of the proxy.
    pub(crate) cpu: Duration,
    /// Busy time of the machine.
    pub(crate) busy: Duration,
    pub(crate) wall: Duration,
    /// Peak memory of the proxy, in bytes.
    pub(crate) peak: Option<u64>,
    /// The scrapes of each connection.
    pub(crate) connections: Vec<Vec<Scraped>>,
}

/// All measured values: one for each round.
#[derive(Default)]
pub(crate) struct Figures {
    values: BTreeMap<(String, String, Figure), Vec<f64>>,
}

impl Figures {
    pub(crate) fn add(&mut self, workload: &str, peer: &str, figure: Figure, value: f64) {
        self.values.entry((workload.to_owned(), peer.to_owned(), figure)).or_default().push(value);
    }

    pub(crate) fn add_round(&mut self, workload: &str, peer: &str, round: &Round) {
        let scrapes = || round.connections.iter().flatten();
        let count = scrapes().count() as f64;
        let bytes: u64 = scrapes().map(|scrape| scrape.bytes).sum();
        let (cpu, busy) = (round.cpu.as_secs_f64(), round.busy.as_secs_f64());
        let of_all = |time: fn(&Scraped) -> Duration| -> Vec<f64> {
            scrapes().map(|scrape| milliseconds(time(scrape))).collect()
        };
        let (times, first) = (of_all(|scrape| scrape.total), of_all(|scrape| scrape.first_byte));
        let mut add = |figure, value: f64| self.add(workload, peer, figure, value);
        add(Figure::CpuPerGigabyte, cpu / bytes as f64 * 1e9);
        add(Figure::CpuPerScrape, cpu / count * 1e6);
        add(Figure::BusyPerGigabyte, busy / bytes as f64 * 1e9);
        add(Figure::BusyPerScrape, busy / count * 1e6);
        add(Figure::Throughput, bytes as f64 / round.wall.as_secs_f64() / 1e6);
        if let Some(peak) = round.peak {
            add(Figure::PeakMemory, peak as f64 / 1024.0 / 1024.0);
        }
        if let Some(fairness) = fairness(&round.connections) {
            add(Figure::Fairness, fairness);
        }
        for (figure, value) in [
            (Figure::MedianTime, median(&times)),
            (Figure::P99Time, quantile(&times, 0.99)),
            (Figure::FirstByte, median(&first)),
        ] {
            add(figure, value.expect("a round has scrapes"));
        }
    }

    /// For each workload, copies the figures of that floor program that used the least CPU time.
    pub(crate) fn choose_floors(&mut self, floors: &[&Peer]) {
        for workload in WORKLOADS {
            let cpu =
                |peer: &&Peer| self.median(workload.name, peer.name(), Figure::CpuPerGigabyte);
            let best = floors
                .iter()
                .filter_map(|peer| Some((*peer, cpu(peer)?)))
                .min_by(|one, other| one.1.total_cmp(&other.1));
            let Some((best, read_size)) =
                best.and_then(|(peer, _)| Some((peer, peer.floor_read_size()?)))
            else {
                continue;
            };
            let copied: Vec<_> = self
                .all()
                .filter(|(name, peer, ..)| *name == workload.name && *peer == best.name())
                .map(|(_, _, figure, values)| (figure, values.to_vec()))
                .collect();
            for (figure, values) in copied {
                self.values.insert((workload.name.to_owned(), FLOOR.to_owned(), figure), values);
            }
            self.add(workload.name, FLOOR, Figure::ReadSize, read_size as f64 / 1024.0);
        }
    }

    /// The median of all rounds.
    pub(crate) fn median(&self, workload: &str, peer: &str, figure: Figure) -> Option<f64> {
        median(self.values.get(&(workload.to_owned(), peer.to_owned(), figure))?)
    }

    /// All values, sorted by workload, peer and figure.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str, Figure, &[f64])> {
        self.values.iter().map(|((workload, peer, figure), values)| {
            (workload.as_str(), peer.as_str(), *figure, values.as_slice())
        })
    }
}

/// The time of the slowest connection, divided by that of the fastest. All have the same number of
/// scrapes.
fn fairness(connections: &[Vec<Scraped>]) -> Option<f64> {
    let times: Vec<Duration> =
        connections.iter().map(|scrapes| scrapes.iter().map(|scrape| scrape.total).sum()).collect();
    let (fastest, slowest) = (times.iter().min()?, times.iter().max()?);
    (times.len() > 1).then(|| slowest.as_secs_f64() / fastest.as_secs_f64())
}
