//! The meaning of a line.

use super::{
    Fault, Format, Kind,
    cursor::{Cursor, Quoted},
    openmetrics, text,
};

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
    Type(Name<'a>, Kind),
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

/// Parses a line without its newline, as Prometheus does.
pub(super) fn parse(line: &[u8], format: Format) -> Result<Taken<'_>, Fault> {
    match format {
        Format::Text => text::parse(line),
        Format::OpenMetrics => openmetrics::parse(line),
    }
}

/// Parses only the name in the beginning of a line that is longer than [`super::MAX_LINE`].
pub(super) fn parse_cut(line: &[u8], format: Format) -> Result<Line<'_>, Fault> {
    let mut cursor = Cursor(line);
    if format == Format::Text {
        cursor.blanks();
    }
    if cursor.first() == Some(b'#') {
        return Ok(comment_of(cursor.0));
    }
    let mut name = cursor.metric_name();
    if name.is_empty() && cursor.takes(b'{') {
        cursor.blanks();
        if cursor.first() == Some(b'"') {
            if let Quoted::Whole(inside) = cursor.quoted() {
                name = inside;
            }
        }
    }
    if name.is_empty() { Err(Fault::Name) } else { Ok(Line::Sample(Name(name))) }
}

/// The family of a long comment line. Such a line cannot be a valid `# TYPE`.
fn comment_of(line: &[u8]) -> Line<'_> {
    let mut cursor = Cursor(&line[1..]);
    cursor.blanks();
    let keyword = cursor.word();
    cursor.blanks();
    let name = cursor.metric_name();
    match keyword {
        b"HELP" if !name.is_empty() => Line::Help(Name(name)),
        _ => Line::Nothing,
    }
}

/// The type in a `# TYPE` line.
pub(super) fn kind(word: &[u8], format: Format) -> Option<Kind> {
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
