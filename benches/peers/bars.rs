//! The performance targets ("bars") of scrapegate: ratios of medians within one run, for one
//! congestion control and one link.

use crate::{
    figures::{Figure, Figures},
    memory,
    peer::FLOOR,
    rounds::DIRECT,
};

const OURS: &str = "scrapegate";

/// What a figure is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// The best of nginx, haproxy, caddy and exporter_exporter.
    BestPeer,
    Peer(&'static str),
    /// Nothing: the figure itself has a limit.
    Absolute,
    /// A direct scrape of the exporter. The limit is for the difference.
    AboveDirect,
}

/// The largest value that meets a bar, by congestion control.
#[derive(Clone, Copy, Debug)]
struct AtMost {
    /// For reno and cubic, which send as soon as the window allows.
    unpaced: f64,
    /// For BBR, which paces with a timer for every few segments. All proxies pay for the timer.
    bbr: f64,
}

const fn at_most(unpaced: f64, bbr: f64) -> AtMost {
    AtMost { unpaced, bbr }
}

/// A limit that does not depend on congestion control.
const fn always(limit: f64) -> AtMost {
    at_most(limit, limit)
}

impl AtMost {
    fn under(self, congestion_control: &str) -> f64 {
        if congestion_control.starts_with("bbr") { self.bbr } else { self.unpaced }
    }
}

struct Bar {
    title: &'static str,
    workload: &'static str,
    figure: Figure,
    limits: &'static [(Against, AtMost)],
}

const BARS: &[Bar] = &[
    Bar {
        title: "CPU per GB, 4 KiB chunks, 1 connection",
        workload: "chunked-1",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::BestPeer, at_most(0.40, 0.82)), (Against::Peer(FLOOR), always(1.20))],
    },
    Bar {
        title: "the same, 8 connections",
        workload: "chunked-8",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::BestPeer, at_most(0.40, 0.60)), (Against::Peer(FLOOR), always(1.20))],
    },
    Bar {
        title: "the same, exporter ahead of the proxy",
        workload: "ahead-1",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::Peer(FLOOR), always(1.20))],
    },
    Bar {
        title: "CPU per GB, gzip in 2 KiB chunks",
        workload: "gzip-1",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::BestPeer, always(0.60))],
    },
    Bar {
        title: "CPU per GB, Content-Length",
        workload: "length-1",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::BestPeer, at_most(0.40, 0.62)), (Against::Peer(FLOOR), always(1.15))],
    },
    Bar {
        title: "CPU per GB, exporter over https",
        workload: "https-1",
        figure: Figure::CpuPerGigabyte,
        limits: &[(Against::BestPeer, always(0.65))],
    },
    Bar {
        title: "the whole machine's busy time per GB, 4 KiB chunks, 1 connection",
        workload: "chunked-1",
        figure: Figure::BusyPerGigabyte,
        limits: &[(Against::BestPeer, at_most(0.60, 0.75))],
    },
    Bar {
        title: "CPU per request, 20 kB, kept connection",
        workload: "small-kept",
        figure: Figure::CpuPerScrape,
        limits: &[(Against::Peer("nginx-reconnect"), always(1.0))],
    },
    Bar {
        title: "CPU per request, new connection each",
        workload: "small-new",
        figure: Figure::CpuPerScrape,
        limits: &[(Against::Peer(FLOOR), always(1.10)), (Against::Peer("caddy"), always(0.60))],
    },
    Bar {
        title: "median time of a 10 MiB scrape, 1 connection",
        workload: "chunked-1",
        figure: Figure::MedianTime,
        limits: &[(Against::BestPeer, at_most(0.52, 0.88))],
    },
    Bar {
        title: "time to first byte, 10 MiB, in ms above a direct scrape",
        workload: "chunked-1",
        figure: Figure::FirstByte,
        limits: &[(Against::AboveDirect, always(1.0))],
    },
    Bar {
        title: "peak memory idle, MiB",
        workload: memory::IDLE,
        figure: Figure::PeakMemory,
        limits: &[(Against::Absolute, always(12.0))],
    },
    Bar {
        title: "peak memory of a 100 MiB scrape, MiB",
        workload: memory::LARGE,
        figure: Figure::PeakMemory,
        limits: &[(Against::Absolute, always(16.0))],
    },
    Bar {
        title: "peak memory with 256 slow readers of 200 MB, MiB",
        workload: memory::STALLED,
        figure: Figure::PeakMemory,
        limits: &[(Against::Absolute, always(8.0 + 256.0 * 0.1))],
    },
    Bar {
        title: "memory of each of 1 000 slow readers, MiB",
        workload: memory::EACH,
        figure: Figure::PeakMemory,
        limits: &[(Against::Absolute, always(0.1))],
    },
    Bar {
        title: "memory kept after 1 000 slow readers have left, MiB",
        workload: memory::KEPT,
        figure: Figure::PeakMemory,
        limits: &[(Against::Absolute, always(8.0))],
    },
    Bar {
        title: "start to listening, ms",
        workload: memory::START,
        figure: Figure::Start,
        limits: &[(Against::Absolute, always(50.0))],
    },
];

/// A bar with the measured value.
pub(crate) struct Verdict {
    pub(crate) title: &'static str,
    /// For example `best peer (haproxy)`.
    pub(crate) against: String,
    pub(crate) limit: f64,
    /// The ratio, or the figure itself.
    pub(crate) value: f64,
}

impl Verdict {
    pub(crate) fn met(&self) -> bool {
        self.value <= self.limit
    }
}

/// Compares every bar whose figures were measured.
pub(crate) fn judge(figures: &Figures, congestion_control: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for bar in BARS {
        let median = |peer| figures.median(bar.workload, peer, bar.figure);
        let Some(ours) = median(OURS) else {
            continue;
        };
        for &(against, limit) in bar.limits {
            let judged = match against {
                Against::Absolute => Some(("absolute".to_owned(), ours)),
                Against::AboveDirect => {
                    median(DIRECT).map(|direct| ("above direct".to_owned(), ours - direct))
                }
                Against::Peer(peer) => median(peer).map(|theirs| (peer.to_owned(), ours / theirs)),
                Against::BestPeer => ["nginx", "haproxy", "caddy", "exporter_exporter"]
                    .into_iter()
                    .filter_map(|peer| Some((peer, median(peer)?)))
                    .min_by(|one, other| one.1.total_cmp(&other.1))
                    .map(|(peer, theirs)| (format!("best peer ({peer})"), ours / theirs)),
            };
            let limit = limit.under(congestion_control);
            if let Some((against, value)) = judged {
                verdicts.push(Verdict { title: bar.title, against, limit, value });
            }
        }
    }
    verdicts
}
