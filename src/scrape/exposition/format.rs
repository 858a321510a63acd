//! The exposition formats, and the types of metrics in them.

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
}
