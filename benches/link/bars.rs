//! The performance targets ("bars") of scrapegate over a thin link: ratios of medians within one
//! run.

use crate::{
    figures::{Figure, Figures},
    filter, scrapes,
};

/// A bar: a column, what it is compared with, and the limit.
struct Bar {
    title: &'static str,
    figure: Figure,
    ours: &'static str,
    /// The column for a ratio, or the figure itself has a limit.
    theirs: Option<&'static str>,
    at_most: f64,
}

const GZIP: &str = "scrapegate gzip";
const ZSTD: &str = "scrapegate zstd";
const NGINX: Option<&str> = Some("nginx gzip");
const CADDY: Option<&str> = Some("caddy zstd");

const fn bar(
    title: &'static str,
    figure: Figure,
    ours: &'static str,
    theirs: Option<&'static str>,
    at_most: f64,
) -> Bar {
    Bar { title, figure, ours, theirs, at_most }
}

/// For each number of scrapers.
const BARS: &[Bar] = &[
    bar("bytes, zstd", Figure::Wire, ZSTD, CADDY, 1.0),
    bar("bytes, gzip", Figure::Wire, GZIP, NGINX, 1.0),
    bar("seconds, zstd", Figure::Seconds, ZSTD, CADDY, 1.0),
    bar("seconds, gzip", Figure::Seconds, GZIP, NGINX, 1.0),
    bar("CPU, zstd", Figure::Cpu, ZSTD, CADDY, 0.6),
    bar("CPU, gzip", Figure::Cpu, GZIP, NGINX, 0.8),
    bar("exporter busy, zstd, s", Figure::ExporterBusy, ZSTD, None, 0.3),
    bar("exporter busy, gzip, s", Figure::ExporterBusy, GZIP, None, 0.3),
    bar("memory for each scrape, zstd, MiB", Figure::MemoryPerScrape, ZSTD, None, 1.0),
    bar("memory for each scrape, gzip, MiB", Figure::MemoryPerScrape, GZIP, None, 1.0),
];

const FILTER_BARS: &[Bar] = &[
    bar("CPU, filter drops half", Figure::Cpu, filter::HALF, Some(filter::NONE), 1.0),
    bar("CPU, filter drops nothing", Figure::Cpu, filter::NOTHING, Some(filter::NONE), 1.25),
];

/// A bar with the measured value.
pub(crate) struct Verdict {
    pub(crate) title: String,
    pub(crate) against: &'static str,
    pub(crate) limit: f64,
    pub(crate) value: f64,
}

impl Verdict {
    pub(crate) fn met(&self) -> bool {
        self.value <= self.limit
    }
}

/// Compares every bar whose figures were measured.
pub(crate) fn judge(figures: &Figures, scrapers: &[usize]) -> Vec<Verdict> {
    let groups = scrapers.iter().map(|scrapers| (scrapes::group(*scrapers), BARS));
    let filter = (filter::GROUP.to_owned(), FILTER_BARS);
    let mut verdicts = Vec::new();
    for (group, bars) in groups.chain([filter]) {
        for bar in bars {
            // With more, the exporters wait for the link.
            if bar.figure == Figure::ExporterBusy && group != scrapes::group(1) {
                continue;
            }
            let Some(ours) = figures.median(&group, bar.ours, bar.figure) else {
                continue;
            };
            let value = match bar.theirs {
                None => Some(ours),
                Some(column) => {
                    figures.median(&group, column, bar.figure).map(|theirs| ours / theirs)
                }
            };
            if let Some(value) = value {
                let (title, limit) = (format!("{}, {group}", bar.title), bar.at_most);
                let against = bar.theirs.unwrap_or("absolute");
                verdicts.push(Verdict { title, against, limit, value });
            }
        }
    }
    verdicts
}
