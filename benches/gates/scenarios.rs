//! The scenarios: work that can be repeated any number of times.
//!
//! A count is the difference between many repetitions and few. One-time work such as start-up, lazy
//! tables and the first buffers is therefore not counted.

use std::hint::black_box;

use hyper::header::HeaderValue;
use scrapegate::common::compression::ContentCoding;
use scrapegate_harness::{
    body::Kind,
    in_memory::{
        counted::Pace,
        rig::{FILTERED, Filtered, Rig},
    },
    inputs::{
        Files, LONG_TARGET, TARGET, deadline, find_exporter, find_route, request, rewrite,
        upstream_head,
    },
    message::{Framing, Message},
};
use tokio::time::Instant;

/// Size of a small scrape in bytes: a small node_exporter, compressed.
pub(crate) const SMALL: usize = 20_000;

/// A relayed body: its name in counts, its kind, and its framing.
pub(crate) type Relayed = (&'static str, Kind, Framing);

/// The bodies that are relayed.
pub(crate) const RELAYED: [Relayed; 4] = [
    ("text, chunked 4 KiB", Kind::Text, Framing::Chunked(4096)),
    ("gzip, chunked 2 KiB", Kind::Opaque, Framing::Chunked(2048)),
    ("text, Content-Length", Kind::Text, Framing::Length),
    ("text, until close", Kind::Text, Framing::UntilClose),
];

/// A piece of work that can be repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// The unit of its counts.
    pub(crate) name: &'static str,
    work: Work,
    /// The two numbers of repetitions whose counts are subtracted.
    pub(crate) times: (usize, usize),
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// One scrape of as many MiB as repetitions.
    Relay(Relayed),
    /// The same, compressed.
    Compress(ContentCoding),
    /// The same for a body of families, with `metrics-drop`.
    Filter(Filtered),
    /// Scrapes of 20 kB, each over a new connection.
    SmallScrapes,
    RewriteHeads,
    FindRoutes,
    ParseQueries,
    ReadTimeouts,
    /// Loads both INI files, with this number of exporters.
    LoadFiles(usize),
}

/// All scenarios.
pub(crate) const SCENARIOS: [Scenario; 15] = [
    Scenario { name: "per MiB of text, chunked 4 KiB", work: Work::Relay(RELAYED[0]), times: MIB },
    Scenario { name: "per MiB of gzip, chunked 2 KiB", work: Work::Relay(RELAYED[1]), times: MIB },
    Scenario { name: "per MiB of text, Content-Length", work: Work::Relay(RELAYED[2]), times: MIB },
    Scenario { name: "per MiB of text, until close", work: Work::Relay(RELAYED[3]), times: MIB },
    Scenario {
        name: "per MiB of text, compressed with zstd",
        work: Work::Compress(ContentCoding::Zstd),
        times: MIB,
    },
    Scenario {
        name: "per MiB of text, compressed with gzip",
        work: Work::Compress(ContentCoding::Gzip),
        times: MIB,
    },
    Scenario {
        name: "per MiB of families, drop half",
        work: Work::Filter(FILTERED[0]),
        times: MIB,
    },
    Scenario {
        name: "per MiB of families, drop nothing",
        work: Work::Filter(FILTERED[1]),
        times: MIB,
    },
    Scenario { name: "per scrape of 20 kB", work: Work::SmallScrapes, times: (20, 60) },
    Scenario { name: "per header rewrite", work: Work::RewriteHeads, times: CALLS },
    Scenario { name: "per route", work: Work::FindRoutes, times: CALLS },
    Scenario { name: "per long query", work: Work::ParseQueries, times: CALLS },
    Scenario { name: "per timeout header", work: Work::ReadTimeouts, times: CALLS },
    Scenario { name: "per config.ini", work: Work::LoadFiles(1), times: (10, 30) },
    Scenario { name: "per 1000 exporters", work: Work::LoadFiles(1000), times: (1, 3) },
];

const MIB: (usize, usize) = (4, 12);
const CALLS: (usize, usize) = (500, 1500);

impl Scenario {
    /// The scenario with this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name)
    }

    /// Prepares the scenario. The returned function does the work `times` times.
    pub(crate) fn prepare(self, times: usize) -> Box<dyn Fn()> {
        match self.work {
            Work::Relay((_, kind, framing)) => {
                let rig = Rig::new(Message::new(kind, framing, times << 20), Pace::AtOnce);
                Box::new(move || rig.scrape())
            }
            Work::Compress(coding) => {
                let message = Message::to_compress(Framing::Chunked(4096), times << 20);
                let rig = Rig::compressing(coding, message, Pace::AtOnce);
                Box::new(move || rig.scrape())
            }
            Work::Filter(filtered) => {
                let rig = Rig::filtered(filtered, times << 20, Pace::AtOnce);
                Box::new(move || rig.scrape())
            }
            Work::SmallScrapes => {
                let message = Message::new(Kind::Opaque, Framing::Chunked(2048), SMALL);
                let rig = Rig::new(message, Pace::AtOnce);
                Box::new(move || repeat(times, || rig.scrape()))
            }
            Work::RewriteHeads => {
                let head = upstream_head();
                Box::new(move || repeat(times, || rewrite(black_box(&head))))
            }
            Work::FindRoutes => {
                let head = request(TARGET);
                Box::new(move || repeat(times, || find_route(black_box(&head))))
            }
            Work::ParseQueries => {
                let target = request(LONG_TARGET).uri;
                Box::new(move || repeat(times, || find_exporter(black_box(&target))))
            }
            Work::ReadTimeouts => {
                let (now, header) = (Instant::now(), HeaderValue::from_static("10.000000"));
                Box::new(move || repeat(times, || deadline(now, black_box(&header))))
            }
            Work::LoadFiles(exporters) => {
                let files = Files::with_exporters(exporters);
                Box::new(move || repeat(times, || files.load()))
            }
        }
    }
}

fn repeat<T>(times: usize, work: impl Fn() -> T) {
    for _ in 0..times {
        black_box(work());
    }
}
