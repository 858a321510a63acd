//! What an answer in the exposition format is made of, found out while it streams by.
//!
//! [`Reader`] takes the text in pieces of any size; what it finds does not depend on where they
//! are cut. It keeps at most [`MAX_LINE`] bytes of a line and [`MAX_FAMILIES`] families, whatever
//! the text is, and [`Statistics`] says when one of the two was not enough.
//!
//! A sample line is taken for a series: whether two lines have the same labels is not looked at,
//! because that would take memory for every series.

mod families;
mod line;

use self::{
    families::Table,
    line::{Line, Name},
};

/// Most bytes of a line that are kept. Of a longer one only the name is looked at.
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

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A byte that no UTF-8 has.
    #[error("not UTF-8")]
    NotUtf8,
    /// No metric name where one belongs.
    #[error("no valid metric name")]
    Name,
    /// Braces, names or quotes of the labels.
    #[error("malformed labels")]
    Labels,
    /// No value, or none that is a number.
    #[error("no valid value")]
    Value,
    /// A timestamp that is no number, or more than one.
    #[error("malformed timestamp")]
    Timestamp,
    /// An exemplar that cannot be read.
    #[error("malformed exemplar")]
    Exemplar,
    /// `# TYPE` with a type that the format does not have.
    #[error("unknown type")]
    Type,
    /// A second `# TYPE` for one family.
    #[error("second # TYPE of this family")]
    SecondType,
    /// A second `# HELP` for one family.
    #[error("second # HELP of this family")]
    SecondHelp,
    /// `# TYPE` behind samples of its family.
    #[error("# TYPE behind samples of its family")]
    LateType,
    /// An empty line, in OpenMetrics.
    #[error("empty line, which OpenMetrics does not have")]
    Blank,
    /// A comment other than `HELP`, `TYPE`, `UNIT` and `EOF`, in OpenMetrics.
    #[error("comment, which OpenMetrics does not have")]
    Comment,
    /// Text behind `# EOF`.
    #[error("text behind # EOF")]
    BehindEof,
    /// OpenMetrics that ends without `# EOF`.
    #[error("no # EOF at the end, without which OpenMetrics is not whole")]
    NoEof,
    /// The last line has no newline.
    #[error("no newline at the end")]
    NoNewline,
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
    /// The first problems, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
}

/// Reads a text piece by piece.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// How long that line is so far, also where it is not kept.
    begun_length: u64,
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
}

impl Reader {
    /// A reader that has seen nothing.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            begun: Vec::new(),
            begun_length: 0,
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
            self.problem(Fault::NoNewline, b"");
        }
        if self.format == Format::OpenMetrics && !self.eof {
            self.problem(Fault::NoEof, b"");
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
        }
    }

    /// Keeps a part of a line, as far as there is room.
    fn begin(&mut self, part: &[u8]) {
        let room = MAX_LINE - self.begun.len();
        self.begun.extend_from_slice(&part[..room.min(part.len())]);
        self.begun_length += part.len() as u64;
    }

    fn take_begun(&mut self, newline: u64) {
        let mut line = std::mem::take(&mut self.begun);
        let length = std::mem::take(&mut self.begun_length);
        self.take_line(&line, length, newline);
        line.clear();
        self.begun = line;
    }

    /// Takes a line of `length` bytes, of which `text` has all or at least the first [`MAX_LINE`].
    fn take_line(&mut self, text: &[u8], length: u64, newline: u64) {
        self.lines += 1;
        if self.longest.is_none_or(|longest| longest.bytes < length) {
            self.longest = Some(LineLength { line: self.lines, bytes: length });
        }
        if self.eof {
            if !std::mem::replace(&mut self.behind_eof, true) {
                self.problem(Fault::BehindEof, text);
            }
            return;
        }
        let whole = length <= MAX_LINE as u64;
        let parsed = if whole {
            line::parse(text, self.format)
        } else {
            self.cut_lines += 1;
            line::parse_cut(&text[..MAX_LINE], self.format)
        };
        match parsed {
            Ok(line) => self.count(line, text, length + newline),
            Err(fault) => self.problem(fault, text),
        }
    }

    fn count(&mut self, line: Line<'_>, text: &[u8], bytes: u64) {
        match line {
            Line::Nothing => {}
            Line::Eof => self.eof = true,
            Line::Unit(Name(name)) => self.table.comment(name, bytes),
            Line::Help(Name(name)) => {
                if let Err(fault) = self.table.help(name, bytes) {
                    self.problem(fault, text);
                }
            }
            Line::Type(Name(name), kind) => {
                if let Err(fault) = self.table.declare(name, kind, bytes) {
                    self.problem(fault, text);
                }
            }
            Line::Sample(Name(name)) => {
                self.samples += 1;
                self.table.sample(name, bytes);
            }
        }
    }

    fn problem(&mut self, fault: Fault, text: &[u8]) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            // A character has at most four bytes.
            let beginning = &text[..text.len().min(4 * EXCERPT)];
            let excerpt = String::from_utf8_lossy(beginning).chars().take(EXCERPT).collect();
            self.problems.push(Problem { line: self.lines.max(1), fault, excerpt });
        }
    }
}

#[cfg(test)]
mod tests;
