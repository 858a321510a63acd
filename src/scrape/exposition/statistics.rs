//! The result of analyzing a text.

use serde::{Deserialize, Serialize};

use super::{
    fault::{Effect, Fault},
    format::MetricType,
};

/// A metric family: the samples of one `# TYPE` line, or of one name without a `# TYPE` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name in the `# TYPE` line, or of the first sample. Not escaped.
    pub name: String,
    /// The type in the `# TYPE` line, or [`MetricType::Untyped`].
    pub kind: MetricType,
    /// Number of sample lines.
    pub series: u64,
    /// Bytes of all its lines, including comments and newlines.
    pub bytes: u64,
}

/// Totals of all families beyond [`MAX_FAMILIES`](super::MAX_FAMILIES). Their number is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Number of sample lines.
    pub series: u64,
    /// Bytes of all their lines.
    pub bytes: u64,
}

/// The number and the length of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLength {
    /// Line number, from 1.
    pub line: u64,
    /// Length in bytes, without the newline.
    pub bytes: u64,
}

/// A fault and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line number, from 1. The last line, if something is missing at the end of the text.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
    /// The beginning of the line. Not escaped: can contain any character.
    pub excerpt: String,
}

/// The result of reading a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Number of bytes.
    pub bytes: u64,
    /// Number of lines.
    pub lines: u64,
    /// Number of valid sample lines. Includes lines over [`MAX_LINE`](super::MAX_LINE) with a valid name.
    pub samples: u64,
    /// The families, up to [`MAX_FAMILIES`](super::MAX_FAMILIES), in the order of the text.
    pub families: Vec<Family>,
    /// The totals of the other families. `None` if all are in `families`.
    pub beyond: Option<Beyond>,
    /// The longest line. The first of several.
    pub longest: Option<LineLength>,
    /// Number of lines longer than [`MAX_LINE`](super::MAX_LINE). Only their names were checked.
    pub cut_lines: u64,
    /// The first problems for Prometheus, up to [`MAX_PROBLEMS`](super::MAX_PROBLEMS).
    pub problems: Vec<Problem>,
    /// Number of all problems for Prometheus.
    pub problem_count: u64,
    /// The first problem with the worst effect in Prometheus.
    pub decisive: Option<Problem>,
    /// The error at which `promtool check metrics` stops. Only for the text format.
    pub promtool: Option<Problem>,
}

impl Statistics {
    /// Whether Prometheus accepts the text, as far as it was read.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        match self.decisive.as_ref().map(|problem| problem.fault.effect()) {
            Some(Effect::Refused) => Acceptance::Refused,
            Some(Effect::RefusedBefore3) => Acceptance::Since3,
            Some(Effect::Ignored) => Acceptance::InPart,
            Some(Effect::Promtool) | None => Acceptance::Whole,
        }
    }
}

/// Whether Prometheus accepts an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Prometheus accepts the whole answer.
    #[default]
    Whole,
    /// Prometheus silently ignores a part of the answer.
    InPart,
    /// Prometheus 2.42 rejects the whole answer. Prometheus 3 accepts it.
    Since3,
    /// Every version rejects the whole answer: `up` is 0.
    Refused,
}
