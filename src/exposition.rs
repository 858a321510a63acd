//! What an answer in the exposition format is made of, found out while it streams by, and whether
//! Prometheus would take it.
//!
//! [`Reader`] takes the text in pieces of any size; what it finds does not depend on where they
//! are cut. It keeps at most [`MAX_LINE`] bytes of a line and [`MAX_FAMILIES`] families, whatever
//! the text is, and [`Statistics`] says when one of the two was not enough.
//!
//! A text is judged twice, because its two judges disagree: by the rules of Prometheus' scraper,
//! which decide whether the target is up, and by those of `promtool check metrics`, which many
//! people run first. `tests/real/verdicts.rs` compares both with the real ones.
//!
//! A sample line is taken for a series: whether two lines have the same labels is not looked at,
//! because that would take memory for every series.

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

/// Most bytes of a line that are kept. Of a longer one only the name is looked at. A label value
/// that holds newlines must fit with all its lines.
pub const MAX_LINE: usize = 64 * 1024;

/// Most families that are told apart.
pub const MAX_FAMILIES: usize = 10_000;

/// Longest name of a family, in bytes; a longer one is counted as beyond [`MAX_FAMILIES`].
pub const MAX_NAME: usize = 512;

/// Most problems that are kept with their line; the others are counted.
pub const MAX_PROBLEMS: usize = 10;

/// Most characters of a line that a problem shows.
const EXCERPT: usize = 100;

/// By which rules a text is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// What `# TYPE` says a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `counter`.
    Counter,
    /// `gauge`.
    Gauge,
    /// `histogram`.
    Histogram,
    /// `gaugehistogram`, of OpenMetrics.
    GaugeHistogram,
    /// `summary`.
    Summary,
    /// `info`, of OpenMetrics.
    Info,
    /// `stateset`, of OpenMetrics.
    StateSet,
    /// `untyped`, in OpenMetrics `unknown`; also without a `# TYPE`.
    Untyped,
}

impl Kind {
    /// The word for people and files; `untyped` in both formats.
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

/// A metric family: what one `# TYPE` is about, or a name without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// As `# TYPE` has it, or the first sample. Not escaped.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Sample lines.
    pub series: u64,
    /// Bytes of its lines, comments and newlines included.
    pub bytes: u64,
}

/// What the families beyond [`MAX_FAMILIES`] come to; how many they are is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Sample lines.
    pub series: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// A line by its number, from 1, and its length in bytes without the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLength {
    /// From 1.
    pub line: u64,
    /// Without the newline.
    pub bytes: u64,
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; of what is missing at the end, the last line.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
    /// The line's beginning. Not escaped: it may hold any character.
    pub excerpt: String,
}

/// What a text was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes in all.
    pub bytes: u64,
    /// Lines in all.
    pub lines: u64,
    /// Sample lines that can be read, or are too long to be looked at.
    pub samples: u64,
    /// The families that are told apart, in the order of the text.
    pub families: Vec<Family>,
    /// The others, if there are any.
    pub beyond: Option<Beyond>,
    /// The first of the longest lines.
    pub longest: Option<LineLength>,
    /// Lines longer than [`MAX_LINE`], of which only the name was looked at.
    pub cut_lines: u64,
    /// The first problems for Prometheus, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// All problems for Prometheus.
    pub problem_count: u64,
    /// The first of the problems that matter most to Prometheus.
    pub decisive: Option<Problem>,
    /// Where `promtool check metrics` stops. It reads no OpenMetrics.
    pub promtool: Option<Problem>,
}

impl Statistics {
    /// What Prometheus makes of the text, as far as it was looked at.
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

/// What Prometheus makes of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// It takes everything.
    #[default]
    Whole,
    /// It ignores a part of it without a word.
    InPart,
    /// Version 2.42 refuses it as a whole, version 3 takes it.
    Since3,
    /// Every version refuses it as a whole: `up` is 0.
    Refused,
}

/// Reads a text piece by piece.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    /// The beginning of a line whose end has not come, or of a record.
    begun: Vec<u8>,
    /// How long that line is so far, also where it is not kept.
    begun_length: u64,
    /// Set while `begun` holds a record that went on past a newline.
    open: Option<Quotes>,
    /// Whether a newline may be part of a label value. Once one had no end, it may not: each line
    /// is then looked at by itself, so that one missing quote does not hide the rest.
    spans_lines: bool,
    /// Prometheus does not look at what follows.
    over: bool,
    eof: bool,
    /// Said once: all that follows `# EOF` has the same cause.
    behind_eof: bool,
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
    /// A reader that has seen nothing.
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
            behind_eof: false,
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

    /// Takes the next piece, which may end anywhere.
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

    /// The text has ended.
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

    /// The text goes on, and is not looked at any more: nothing is said about its end. A line that
    /// has begun counts only for the bytes.
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

    /// Keeps a part of a line, as far as there is room.
    fn begin(&mut self, part: &[u8]) {
        if self.open.is_some() && self.begun.len() + part.len() >= MAX_LINE {
            self.take_apart(None);
        }
        let room = MAX_LINE - self.begun.len();
        self.begun.extend_from_slice(&part[..room.min(part.len())]);
        self.begun_length += part.len() as u64;
    }

    /// The line that has begun is at its end.
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

    /// What went on past a newline does not end as it should: its lines are taken one by one. The
    /// last one has its end if there is an `end`, which says whether that is a newline.
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
            // The text ended with a newline.
            Some(0) if last.is_empty() => {}
            Some(newline) => self.take_line(last, last.len() as u64, newline),
            None => self.begin(last),
        }
    }

    /// Counts a line of `length` bytes.
    fn measure(&mut self, length: u64) {
        self.lines += 1;
        if self.longest.is_none_or(|longest| longest.bytes < length) {
            self.longest = Some(LineLength { line: self.lines, bytes: length });
        }
    }

    /// Takes a line of `length` bytes. `text` has all of them, or at least the first [`MAX_LINE`].
    fn take_line(&mut self, text: &[u8], length: u64, newline: u64) {
        if self.eof || self.over {
            self.measure(length);
            if self.eof && !std::mem::replace(&mut self.behind_eof, true) {
                self.problem(Fault::BehindEof, self.lines, text);
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
            self.open = Some(Quotes::behind(text));
            return;
        }
        self.measure(length);
        self.judge(parsed, text, self.lines, newline);
    }

    /// Takes a whole record, which began in line `first`.
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
    // A character has at most four bytes.
    let beginning = &text[..text.len().min(4 * EXCERPT)];
    let excerpt = String::from_utf8_lossy(beginning).chars().take(EXCERPT).collect();
    Problem { line: line.max(1), fault, excerpt }
}

#[cfg(test)]
mod tests;
