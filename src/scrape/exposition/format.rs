//! The exposition formats, and the types of metrics in them.

/// All suffixes that a sample can append to the name of its family.
pub(in crate::scrape) const SUFFIXES: [&[u8]; 8] =
    [b"_bucket", b"_sum", b"_count", b"_total", b"_created", b"_gsum", b"_gcount", b"_info"];

/// The exposition format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The type of a family, from its `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// `counter`.
    Counter,
    /// `gauge`.
    Gauge,
    /// `histogram`.
    Histogram,
    /// `gaugehistogram`, only in OpenMetrics.
    GaugeHistogram,
    /// `summary`.
    Summary,
    /// `info`, only in OpenMetrics.
    Info,
    /// `stateset`, only in OpenMetrics.
    StateSet,
    /// `untyped`, or `unknown` in OpenMetrics. Also the type of a family without a `# TYPE` line.
    Untyped,
}

impl MetricType {
    /// The name of the type. `untyped` in both formats.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Untyped => "untyped",
        }
    }

    /// Whether a family of this type has samples with `suffix` after its name.
    pub(in crate::scrape) fn has_suffix(self, suffix: &[u8]) -> bool {
        let suffixes: &[&[u8]] = match self {
            Self::Counter => &[b"_total", b"_created"],
            Self::Histogram => &[b"_bucket", b"_sum", b"_count", b"_created"],
            Self::GaugeHistogram => &[b"_bucket", b"_gsum", b"_gcount"],
            Self::Summary => &[b"_sum", b"_count", b"_created"],
            Self::Info => &[b"_info"],
            Self::Gauge | Self::StateSet | Self::Untyped => &[],
        };
        suffixes.contains(&suffix)
    }

    /// The type in a `# TYPE` line, in either format.
    pub(in crate::scrape) fn of_word(word: &[u8]) -> Option<Self> {
        kind(word, ExpositionFormat::Text).or_else(|| kind(word, ExpositionFormat::OpenMetrics))
    }
}

/// The type in a `# TYPE` line of `format`.
pub(super) fn kind(word: &[u8], format: ExpositionFormat) -> Option<MetricType> {
    Some(match (word, format) {
        (b"counter", _) => MetricType::Counter,
        (b"gauge", _) => MetricType::Gauge,
        (b"histogram", _) => MetricType::Histogram,
        (b"summary", _) => MetricType::Summary,
        (b"untyped", ExpositionFormat::Text) | (b"unknown", ExpositionFormat::OpenMetrics) => {
            MetricType::Untyped
        }
        (b"gaugehistogram", ExpositionFormat::OpenMetrics) => MetricType::GaugeHistogram,
        (b"info", ExpositionFormat::OpenMetrics) => MetricType::Info,
        (b"stateset", ExpositionFormat::OpenMetrics) => MetricType::StateSet,
        _ => return None,
    })
}
