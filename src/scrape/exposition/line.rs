//! The meaning of a line.

use super::{fault::Fault, format::MetricType};

/// A metric name as in the text, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a>(pub(super) &'a [u8]);

/// The meaning of a line, as far as the statistics need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// An empty line or a comment.
    Nothing,
    /// The end of the text for Prometheus, because of a NUL byte.
    End,
    /// `# EOF` in OpenMetrics.
    Eof,
    /// `# HELP` with a text.
    Help(Name<'a>),
    /// `# HELP` without a text, or `# UNIT` in OpenMetrics.
    About(Name<'a>),
    /// `# TYPE`.
    Type(Name<'a>, MetricType),
    /// A sample, with its full name.
    Sample(Name<'a>),
}

/// A line that at least one version of Prometheus accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken<'a> {
    pub(super) line: Line<'a>,
    /// A fault that not every version accepts, or that changes the meaning of the line.
    pub(super) remark: Option<Fault>,
}

impl<'a> From<Line<'a>> for Taken<'a> {
    fn from(line: Line<'a>) -> Self {
        Self { line, remark: None }
    }
}
