//! One line of the exposition format.
//!
//! As strict as Prometheus' own parsers where they refuse an answer as a whole, and not stricter.

use super::{Fault, Format, Kind};

/// A metric name as it stands in the text, without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a>(pub(super) &'a [u8]);

/// What a line says, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// An empty line or a comment.
    Nothing,
    /// `# EOF`, in OpenMetrics.
    Eof,
    /// `# HELP`.
    Help(Name<'a>),
    /// `# UNIT`, in OpenMetrics.
    Unit(Name<'a>),
    /// `# TYPE`.
    Type(Name<'a>, Kind),
    /// A sample, with its own name.
    Sample(Name<'a>),
}

/// Reads a line without its newline.
pub(super) fn parse(line: &[u8], format: Format) -> Result<Line<'_>, Fault> {
    if std::str::from_utf8(line).is_err() {
        return Err(Fault::NotUtf8);
    }
    let text = match format {
        Format::Text => trim(line),
        Format::OpenMetrics => line,
    };
    match (text.first(), format) {
        (None, Format::Text) => Ok(Line::Nothing),
        (None, Format::OpenMetrics) => Err(Fault::Blank),
        (Some(b'#'), _) => comment(text, format),
        (Some(_), _) => sample(text, format).map(Line::Sample),
    }
}

/// Reads the beginning of a line that is too long to be kept: its name, and nothing more.
pub(super) fn parse_cut(line: &[u8], format: Format) -> Result<Line<'_>, Fault> {
    let text = match format {
        Format::Text => trim(line),
        Format::OpenMetrics => line,
    };
    if text.first() == Some(&b'#') {
        return comment(text, format);
    }
    let mut cursor = Cursor(text);
    let mut name = cursor.name();
    if name.is_empty() && cursor.takes(b'{') {
        cursor.blanks();
        name = cursor.quoted().unwrap_or_default();
    }
    if name.is_empty() { Err(Fault::Name) } else { Ok(Line::Sample(Name(name))) }
}

fn comment(text: &[u8], format: Format) -> Result<Line<'_>, Fault> {
    let strict = format == Format::OpenMetrics;
    if strict && text == b"# EOF" {
        return Ok(Line::Eof);
    }
    let mut cursor = Cursor(&text[1..]);
    let separated = cursor.blanks();
    let keyword = cursor.word();
    let known = match keyword {
        b"HELP" | b"TYPE" => separated,
        b"UNIT" => separated && strict,
        _ => false,
    };
    if !known {
        return if strict { Err(Fault::Comment) } else { Ok(Line::Nothing) };
    }
    cursor.blanks();
    let name = if cursor.0.first() == Some(&b'"') {
        cursor.quoted().unwrap_or_default()
    } else {
        let word = cursor.word();
        if is_name(word) { word } else { b"" }
    };
    if name.is_empty() {
        return Err(Fault::Name);
    }
    match keyword {
        b"TYPE" => {
            let kind = kind(trim(cursor.0), format).ok_or(Fault::Type)?;
            Ok(Line::Type(Name(name), kind))
        }
        b"UNIT" => Ok(Line::Unit(Name(name))),
        _ => Ok(Line::Help(Name(name))),
    }
}

fn kind(word: &[u8], format: Format) -> Option<Kind> {
    Some(match (word, format) {
        (b"counter", _) => Kind::Counter,
        (b"gauge", _) => Kind::Gauge,
        (b"histogram", _) => Kind::Histogram,
        (b"summary", _) => Kind::Summary,
        (b"untyped", Format::Text) | (b"unknown", Format::OpenMetrics) => Kind::Untyped,
        (b"gaugehistogram", Format::OpenMetrics) => Kind::GaugeHistogram,
        (b"info", Format::OpenMetrics) => Kind::Info,
        (b"stateset", Format::OpenMetrics) => Kind::StateSet,
        _ => return None,
    })
}

fn sample(text: &[u8], format: Format) -> Result<Name<'_>, Fault> {
    let mut cursor = Cursor(text);
    let mut name = cursor.name();
    let mut separated = cursor.blanks();
    if cursor.takes(b'{') {
        labels(&mut cursor, &mut name)?;
        cursor.blanks();
        separated = true;
    }
    if name.is_empty() || !(separated || cursor.0.is_empty()) {
        return Err(Fault::Name);
    }
    if !is_number(cursor.word()) {
        return Err(Fault::Value);
    }
    cursor.blanks();
    let at_end = |cursor: &Cursor<'_>| match cursor.0.first() {
        None => true,
        Some(&next) => next == b'#' && format == Format::OpenMetrics,
    };
    if !at_end(&cursor) {
        let timestamp = cursor.word();
        let is_timestamp = match format {
            Format::Text => is_integer(timestamp),
            Format::OpenMetrics => is_number(timestamp),
        };
        cursor.blanks();
        if !is_timestamp || !at_end(&cursor) {
            return Err(Fault::Timestamp);
        }
    }
    if cursor.takes(b'#') { exemplar(cursor).map(|()| Name(name)) } else { Ok(Name(name)) }
}

/// ` {labels} value [timestamp]`, behind the `#`.
fn exemplar(mut cursor: Cursor<'_>) -> Result<(), Fault> {
    cursor.blanks();
    // A quoted name without a value is for samples alone.
    let mut name: &[u8] = b"exemplar";
    if !cursor.takes(b'{') || labels(&mut cursor, &mut name).is_err() {
        return Err(Fault::Exemplar);
    }
    cursor.blanks();
    let value = is_number(cursor.word());
    cursor.blanks();
    let timestamp = cursor.0.is_empty() || is_number(cursor.word());
    if value && timestamp && cursor.0.is_empty() { Ok(()) } else { Err(Fault::Exemplar) }
}

/// Reads up to the closing brace. A quoted word without a value is the metric's name, if it has
/// none yet.
fn labels<'a>(cursor: &mut Cursor<'a>, name: &mut &'a [u8]) -> Result<(), Fault> {
    loop {
        cursor.blanks();
        if cursor.takes(b'}') {
            return Ok(());
        }
        let quoted = cursor.0.first() == Some(&b'"');
        let label = if quoted { cursor.quoted().ok_or(Fault::Labels)? } else { cursor.name() };
        cursor.blanks();
        if cursor.takes(b'=') {
            cursor.blanks();
            // A colon is for metric names.
            if !quoted && (label.is_empty() || label.contains(&b':')) {
                return Err(Fault::Labels);
            }
            cursor.quoted().ok_or(Fault::Labels)?;
        } else if quoted && name.is_empty() {
            *name = label;
        } else {
            return Err(Fault::Labels);
        }
        cursor.blanks();
        if !cursor.takes(b',') && cursor.0.first() != Some(&b'}') {
            return Err(Fault::Labels);
        }
    }
}

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn split(&mut self, at: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(at);
        self.0 = rest;
        taken
    }

    /// Skips spaces and tabs; says whether there were any.
    fn blanks(&mut self) -> bool {
        let length = self.0.iter().take_while(|&&byte| is_blank(byte)).count();
        !self.split(length).is_empty()
    }

    fn takes(&mut self, wanted: u8) -> bool {
        let is_next = self.0.first() == Some(&wanted);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    /// Up to the next blank.
    fn word(&mut self) -> &'a [u8] {
        let length = self.0.iter().take_while(|&&byte| !is_blank(byte)).count();
        self.split(length)
    }

    /// A metric or label name without quotes; empty if there is none.
    fn name(&mut self) -> &'a [u8] {
        if self.0.first().is_some_and(u8::is_ascii_digit) {
            return b"";
        }
        let length = self.0.iter().take_while(|&&byte| is_name_byte(byte)).count();
        self.split(length)
    }

    /// What stands between quotes, escapes as they are.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        if !self.takes(b'"') {
            return None;
        }
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', &self.0[from..])?;
            if self.0[at] == b'"' {
                let inside = self.split(at);
                self.0 = &self.0[1..];
                return Some(inside);
            }
            // Whatever follows the backslash is no end.
            from = at + 2;
            if from > self.0.len() {
                return None;
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

fn is_name(word: &[u8]) -> bool {
    word.first().is_some_and(|first| !first.is_ascii_digit())
        && word.iter().all(|&byte| is_name_byte(byte))
}

/// What Go's `ParseFloat` and Rust's agree on: decimals, `+Inf`, `NaN`.
fn is_number(word: &[u8]) -> bool {
    let is_short_integer = word.len() < 16 && word.iter().all(u8::is_ascii_digit);
    if is_short_integer {
        return !word.is_empty();
    }
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<f64>().is_ok())
}

fn is_integer(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<i64>().is_ok())
}
