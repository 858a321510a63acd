//! Analyzes metrics in an exposition format while they stream through: counts families, series and
//! bytes, and checks whether Prometheus would accept the text. For `probe`.
//!
//! [`Analyzer`] takes the text in pieces of any size. The result does not depend on where the pieces
//! are split. For any text, the analyzer keeps at most [`MAX_LINE`] bytes of a line and
//! [`MAX_FAMILIES`] families. [`Statistics`] tells if a text exceeded one of these limits.
//!
//! A text is checked twice, because Prometheus and promtool disagree. The rules of Prometheus'
//! scraper decide whether the target is up. The rules of `promtool check metrics` matter because
//! many people run it first. `tests/real/verdicts.rs` compares both checks with the real programs.
//!
//! Each sample line counts as one series. The analyzer does not check whether two lines have the same
//! labels, because that would need memory for every series.
//!
//! - `analyzer`: splits the text into records, and counts them and their faults.
//! - `parse`: one record by the rules of Prometheus, in `text` or `openmetrics`. They use `cursor`,
//!   `names` and `labels`, and return a `line`. `quotes` finds the end of a record over several
//!   lines.
//! - `promtool`: one record by the rules of promtool.
//! - `families`: the table of metric families.
//! - `format`, `statistics`, `fault`: the vocabulary: formats and types, results, faults.

mod analyzer;
mod cursor;
mod families;
mod fault;
mod format;
mod labels;
mod line;
mod names;
mod openmetrics;
mod parse;
mod promtool;
mod quotes;
mod statistics;
mod text;

pub use self::{
    analyzer::{Analyzer, MAX_LINE, MAX_PROBLEMS},
    families::{MAX_FAMILIES, MAX_NAME},
    fault::{Effect, Fault},
    format::{ExpositionFormat, MetricType},
    statistics::{Acceptance, Beyond, Family, LineLength, Problem, Statistics},
};
pub(super) use self::{format::SUFFIXES, labels::unescaped};
