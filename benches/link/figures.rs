//! The measured values, and their medians.

use std::collections::BTreeMap;

use scrapegate_harness::side_by_side::numbers::median;

/// A kind of value in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Seconds,
    Wire,
    Cpu,
    FirstByte,
    ExporterBusy,
    PeakMemory,
    MemoryPerScrape,
}

impl Figure {
    pub(crate) const ALL: [Self; 7] = [
        Self::Seconds,
        Self::Wire,
        Self::Cpu,
        Self::FirstByte,
        Self::ExporterBusy,
        Self::PeakMemory,
        Self::MemoryPerScrape,
    ];

    /// The key in the JSON file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Wire => "megabytes_on_the_wire",
            Self::Cpu => "cpu_seconds",
            Self::FirstByte => "first_byte_milliseconds",
            Self::ExporterBusy => "exporter_busy_seconds",
            Self::PeakMemory => "peak_mebibytes",
            Self::MemoryPerScrape => "mebibytes_per_scrape",
        }
    }

    /// The row of the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Seconds => "seconds until all have the whole body",
            Self::Wire => "MB on the wire, with all headers",
            Self::Cpu => "CPU seconds of the proxy",
            Self::FirstByte => "ms to the first byte",
            Self::ExporterBusy => "seconds in which the exporter was busy with one scrape",
            Self::PeakMemory => "peak memory of the proxy, MiB",
            Self::MemoryPerScrape => "of this, for each scrape, MiB",
        }
    }
}

/// All measured values by row group, column and figure: one for each round.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<(String, String, Figure), Vec<f64>>);

impl Figures {
    pub(crate) fn add(&mut self, group: &str, column: &str, figure: Figure, value: f64) {
        self.0.entry((group.to_owned(), column.to_owned(), figure)).or_default().push(value);
    }

    /// The median of all rounds.
    pub(crate) fn median(&self, group: &str, column: &str, figure: Figure) -> Option<f64> {
        median(self.0.get(&(group.to_owned(), column.to_owned(), figure))?)
    }

    /// All values, sorted by group, column and figure.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str, Figure, &[f64])> {
        self.0.iter().map(|((group, column, figure), values)| {
            (group.as_str(), column.as_str(), *figure, values.as_slice())
        })
    }
}
