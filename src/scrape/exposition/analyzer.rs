//! Splits a text into records, and counts them and their faults.

use super::{
    families::Table,
    fault::Fault,
    format::ExpositionFormat,
    line::{Line, Name, Taken},
    parse, promtool,
    quotes::Quotes,
    statistics::{LineLength, Problem, Statistics},
};

/// Limit for the length of a line, in bytes. In a longer line, only the name is checked. For a
/// sample with newlines in its label values, the limit applies to all its lines together.
pub const MAX_LINE: usize = 64 * 1024;

/// Limit for the number of problems that are kept. Further problems are only counted.
pub const MAX_PROBLEMS: usize = 10;

/// Length of the excerpt in a problem, in characters.
const EXCERPT: usize = 100;

/// Analyzes a text piece by piece. The documentation of [the module](super) says how.
#[derive(Debug)]
pub struct Analyzer {
    format: ExpositionFormat,
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

impl Analyzer {
    /// Creates an analyzer for a new text.
    #[must_use]
    pub fn new(format: ExpositionFormat) -> Self {
        Self {
            format,
            begun: Vec::new(),
            begun_length: 0,
            open: None,
            spans_lines: format == ExpositionFormat::Text,
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

    /// Analyzes the next piece of the text. It can end anywhere, even inside a character.
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
        if self.format == ExpositionFormat::OpenMetrics && !self.eof {
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
        let parsed = parse::record(&record, self.format);
        if parsed.is_err() {
            self.begun = record;
            self.take_apart(Some(newline));
            return;
        }
        self.open = None;
        self.begun_length = 0;
        let first = self.lines + 1;
        record.split(|&byte| byte == b'\n').for_each(|line| self.measure(line.len() as u64));
        self.take_record(parsed, &record, first, newline);
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
            match parse::beginning(&text[..MAX_LINE], self.format) {
                Ok(line) => self.count(line, length + newline),
                Err(fault) => self.problem(fault, self.lines, text),
            }
            return;
        }
        let parsed = parse::record(text, self.format);
        let may_go_on = self.spans_lines && newline == 1 && length < MAX_LINE as u64;
        if may_go_on && parsed == Err(Fault::OpenQuote) {
            self.begun = [text, b"\n"].concat();
            self.begun_length = length + 1;
            self.open = Some(Quotes::after(text));
            return;
        }
        self.measure(length);
        self.take_record(parsed, text, self.lines, newline);
    }

    /// Processes a complete record, which starts in line `first`.
    fn take_record(
        &mut self,
        parsed: Result<Taken<'_>, Fault>,
        text: &[u8],
        first: u64,
        newline: u64,
    ) {
        if self.format == ExpositionFormat::Text && self.promtool.is_none() {
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
