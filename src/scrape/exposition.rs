//! Analyzes metrics in an exposition format while they stream through: counts families, series and
//! bytes, and checks whether Prometheus would accept the text. For `probe`.
//!
//! [`Reader`] takes the text in pieces of any size. The result does not depend on where the pieces
//! are split. For any text, the reader keeps at most [`MAX_LINE`] bytes of a line and
//! [`MAX_FAMILIES`] families. [`Statistics`] tells if a text exceeded one of these limits.
//!
//! A text is checked twice, because Prometheus and promtool disagree. The rules of Prometheus'
//! scraper decide whether the target is up. The rules of `promtool check metrics` matter because
//! many people run it first. `tests/real/verdicts.rs` compares both checks with the real programs.
//!
//! Each sample line counts as one series. The reader does not check whether two lines have the same
//! labels, because that would need memory for every series.

mod cursor;
mod families;
mod fault;
mod labels;
mod line;
mod openmetrics;
mod promtool;
mod quotes;
mod text;

use serde::{Deserialize, Serialize};

pub use self::fault::{Effect, Fault};
use self::{
    families::Table,
    line::{Line, Name, Taken},
    quotes::Quotes,
};

/// Limit for the length of a line, in bytes. In a longer line, only the name is checked. For a
/// sample with newlines in its label values, the limit applies to all its lines together.
pub const MAX_LINE: usize = 64 * 1024;

/// Limit for the number of families. Samples of further families are only counted.
pub const MAX_FAMILIES: usize = 10_000;

/// Limit for the length of a family's name, in bytes. Families with a longer name count as beyond
/// [`MAX_FAMILIES`].
pub const MAX_NAME: usize = 512;

/// Limit for the number of problems that are kept. Further problems are only counted.
pub const MAX_PROBLEMS: usize = 10;

/// Length of the excerpt in a problem, in characters.
const EXCERPT: usize = 100;

/// The exposition format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The type of a family, from its `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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

impl Kind {
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

/// A metric family: the samples of one `# TYPE` line, or of one name without a `# TYPE` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name in the `# TYPE` line, or of the first sample. Not escaped.
    pub name: String,
    /// The type.
    pub kind: Kind,
    /// Number of sample lines.
    pub series: u64,
    /// Bytes of all its lines, including comments and newlines.
    pub bytes: u64,
}

/// Totals of all families beyond [`MAX_FAMILIES`]. Their number is unknown.
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
    /// Number of valid sample lines. Includes lines over [`MAX_LINE`] with a valid name.
    pub samples: u64,
    /// The families, up to [`MAX_FAMILIES`], in the order of the text.
    pub families: Vec<Family>,
    /// The totals of the other families. `None` if all are in `families`.
    pub beyond: Option<Beyond>,
    /// The longest line. The first of several.
    pub longest: Option<LineLength>,
    /// Number of lines longer than [`MAX_LINE`]. Only their names were checked.
    pub cut_lines: u64,
    /// The first problems for Prometheus, up to [`MAX_PROBLEMS`].
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

/// Reads a text piece by piece. See the documentation of the module.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    /// The beginning of an unfinished line, or of a sample that spans several lines.
    begun: Vec<u8>,
    /// Length of the unfinished line so far, including bytes that are not kept.
    begun_length: u64,
    /// Set while `begun` holds a sample that continues after a newline.
    open: Option<Quotes>,
    /// Whether a newline may be part of a label value. Becomes `false` after a label value without
    /// an end. From then on each line is read by itself, so that one missing quote does not hide
    /// the rest.
    spans_lines: bool,
    /// Set after a NUL byte: Prometheus ignores the rest of the text.
    over: bool,
    eof: bool,
    /// Text after `# EOF` has been reported. It is reported only once.
    after_eof: bool,
    bytes: u64,
    lines: u64,
    samples: u64,
    table: Table,
    longest: Option<LineLength>,
    cut_lines: u64,
    problems: Vec<Problem>,
    problem_count: u64,
    decisive: Option<Problem>,
    promtool: Option<Problem>,
}

impl Reader {
    /// Creates a reader for a new text.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            begun: Vec::new(),
            begun_length: 0,
            open: None,
            spans_lines: format == Format::Text,
            over: false,
            eof: false,
            after_eof: false,
            bytes: 0,
            lines: 0,
            samples: 0,
            table: Table::default(),
            longest: None,
            cut_lines: 0,
            problems: Vec::new(),
            problem_count: 0,
            decisive: None,
            promtool: None,
        }
    }

    /// Reads the next piece of the text. It can end anywhere, even inside a character.
    pub fn push(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.begun_length == 0 {
                self.take_line(line, line.len() as u64, 1);
            } else {
                self.begin(line);
                self.take_begun(1);
            }
            piece = rest;
        }
        self.begin(piece);
    }

    /// Returns the statistics at the end of the text.
    #[must_use]
    pub fn finish(mut self) -> Statistics {
        if self.begun_length > 0 {
            self.take_begun(0);
        }
        if self.format == Format::OpenMetrics && !self.eof {
            self.problem(Fault::NoEof, self.lines, b"");
        }
        self.stop()
    }

    /// Returns the statistics before the end of the text, so the end is not checked. An unfinished
    /// line counts only towards the bytes.
    #[must_use]
    pub fn stop(self) -> Statistics {
        let (families, beyond) = self.table.into_families();
        Statistics {
            bytes: self.bytes,
            lines: self.lines,
            samples: self.samples,
            families,
            beyond,
            longest: self.longest,
            cut_lines: self.cut_lines,
            problems: self.problems,
            problem_count: self.problem_count,
            decisive: self.decisive,
            promtool: self.promtool,
        }
    }

    /// Keeps a part of a line, up to [`MAX_LINE`].
    fn begin(&mut self, part: &[u8]) {
        if self.open.is_some() && self.begun.len() + part.len() >= MAX_LINE {
            self.take_apart(None);
        }
        let room = MAX_LINE - self.begun.len();
        self.begun.extend_from_slice(&part[..room.min(part.len())]);
        self.begun_length += part.len() as u64;
    }

    /// Processes the unfinished line, whose end has arrived. `newline` is 1 if it ended with a
    /// newline, else 0.
    fn take_begun(&mut self, newline: u64) {
        let Some(quotes) = &mut self.open else {
            let mut line = std::mem::take(&mut self.begun);
            let length = std::mem::take(&mut self.begun_length);
            self.take_line(&line, length, newline);
            if self.open.is_none() {
                line.clear();
                self.begun = line;
            }
            return;
        };
        quotes.scan(&self.begun);
        if quotes.is_open() {
            if newline == 1 {
                self.begun.push(b'\n');
                self.begun_length += 1;
            } else {
                self.take_apart(Some(newline));
            }
            return;
        }
        let record = std::mem::take(&mut self.begun);
        let parsed = line::parse(&record, self.format);
        if parsed.is_err() {
            self.begun = record;
            self.take_apart(Some(newline));
            return;
        }
        self.open = None;
        self.begun_length = 0;
        let first = self.lines + 1;
        record.split(|&byte| byte == b'\n').for_each(|line| self.measure(line.len() as u64));
        self.judge(parsed, &record, first, newline);
    }

    /// Processes a sample over several lines that turned out to be invalid: each line by itself. If
    /// `end` is `None`, the last line is unfinished. Else `end` is 1 if it ended with a newline, or
    /// 0.
    fn take_apart(&mut self, end: Option<u64>) {
        let record = std::mem::take(&mut self.begun);
        self.open = None;
        self.begun_length = 0;
        self.spans_lines = false;
        let mut lines = record.split(|&byte| byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.take_line(line, line.len() as u64, 1);
        }
        match end {
            // The text ended with a newline, so there is no last line.
            Some(0) if last.is_empty() => {}
            Some(newline) => self.take_line(last, last.len() as u64, newline),
            None => self.begin(last),
        }
    }

    /// Counts a line with `length` bytes.
    fn measure(&mut self, length: u64) {
        self.lines += 1;
        if self.longest.is_none_or(|longest| longest.bytes < length) {
            self.longest = Some(LineLength { line: self.lines, bytes: length });
        }
    }

    /// Processes a line with `length` bytes. `text` has all of them, or at least the first
    /// [`MAX_LINE`].
    fn take_line(&mut self, text: &[u8], length: u64, newline: u64) {
        if self.eof || self.over {
            self.measure(length);
            if self.eof && !std::mem::replace(&mut self.after_eof, true) {
                self.problem(Fault::AfterEof, self.lines, text);
            }
            return;
        }
        if length > MAX_LINE as u64 {
            self.measure(length);
            self.cut_lines += 1;
            match line::parse_cut(&text[..MAX_LINE], self.format) {
                Ok(line) => self.count(line, length + newline),
                Err(fault) => self.problem(fault, self.lines, text),
            }
            return;
        }
        let parsed = line::parse(text, self.format);
        let may_go_on = self.spans_lines && newline == 1 && length < MAX_LINE as u64;
        if may_go_on && parsed == Err(Fault::OpenQuote) {
            self.begun = [text, b"\n"].concat();
            self.begun_length = length + 1;
            self.open = Some(Quotes::after(text));
            return;
        }
        self.measure(length);
        self.judge(parsed, text, self.lines, newline);
    }

    /// Processes a complete record, which starts in line `first`.
    fn judge(&mut self, parsed: Result<Taken<'_>, Fault>, text: &[u8], first: u64, newline: u64) {
        if self.format == Format::Text && self.promtool.is_none() {
            let checked = promtool::check(text, newline == 1, &self.table);
            self.promtool = checked.err().map(|fault| problem(fault, first, text));
        }
        match parsed {
            Ok(Taken { line, remark }) => {
                self.count(line, text.len() as u64 + newline);
                if let Some(fault) = remark {
                    self.problem(fault, first, text);
                }
            }
            Err(fault) => self.problem(fault, first, text),
        }
    }

    fn count(&mut self, line: Line<'_>, bytes: u64) {
        match line {
            Line::Nothing => {}
            Line::End => self.over = true,
            Line::Eof => self.eof = true,
            Line::About(Name(name)) => self.table.comment(name, bytes),
            Line::Help(Name(name)) => self.table.help(name, bytes),
            Line::Type(Name(name), kind) => self.table.declare(name, kind, bytes),
            Line::Sample(Name(name)) => {
                self.samples += 1;
                self.table.sample(name, bytes);
            }
        }
    }

    fn problem(&mut self, fault: Fault, line: u64, text: &[u8]) {
        self.problem_count += 1;
        let problem = problem(fault, line, text);
        let weighs_more = |decisive: &Problem| fault.effect() > decisive.fault.effect();
        if self.decisive.as_ref().is_none_or(weighs_more) {
            self.decisive = Some(problem.clone());
        }
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

fn problem(fault: Fault, line: u64, text: &[u8]) -> Problem {
    // A UTF-8 character has at most four bytes.
    let beginning = &text[..text.len().min(4 * EXCERPT)];
    let excerpt = String::from_utf8_lossy(beginning).chars().take(EXCERPT).collect();
    Problem { line: line.max(1), fault, excerpt }
}

#[cfg(test)]
mod tests;
