//! Parses one record by the rules of Prometheus' scraper.

use super::{
    cursor::{Cursor, Quoted},
    fault::Fault,
    format::ExpositionFormat,
    line::{Line, Name, Taken},
    openmetrics, text,
};

/// Parses a record as Prometheus does: a line without its newline, or, in the text format, several
/// lines if label values contain newlines.
pub(super) fn record(line: &[u8], format: ExpositionFormat) -> Result<Taken<'_>, Fault> {
    match format {
        ExpositionFormat::Text => text::parse(line),
        ExpositionFormat::OpenMetrics => openmetrics::parse(line),
    }
}

/// Parses only the name in the beginning of a line that is longer than [`super::MAX_LINE`].
pub(super) fn beginning(line: &[u8], format: ExpositionFormat) -> Result<Line<'_>, Fault> {
    let mut cursor = Cursor(line);
    if format == ExpositionFormat::Text {
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
