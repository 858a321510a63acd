//! Checks one record of the text format by the rules of `promtool check metrics`.
//!
//! promtool uses the parser `expfmt/text_parse.go`, which Prometheus does not use for scrapes. That
//! parser is stricter than the scraper in most respects, and laxer in some.

use super::{
    cursor::{Cursor, float, is_blank, is_integer},
    families::Table,
    fault::Fault,
    format::MetricType,
};

/// Checks a record as promtool does. `is_ended` tells whether it ended with a newline.
pub(super) fn check(record: &[u8], is_ended: bool, families: &Table) -> Result<(), Fault> {
    let mut cursor = Cursor(record);
    cursor.blanks();
    let read = match cursor.first() {
        // An empty record, or only blanks at the end of the text.
        None => return Ok(()),
        Some(b'#') => comment(Cursor(&cursor.0[1..]), families),
        Some(_) => sample(cursor, families),
    };
    read.and(if is_ended { Ok(()) } else { Err(Fault::NoNewline) })
}

/// Checks a comment, after its `#`.
fn comment(mut cursor: Cursor<'_>, families: &Table) -> Result<(), Fault> {
    cursor.blanks();
    let keyword = cursor.word();
    if cursor.is_empty() || !matches!(keyword, b"HELP" | b"TYPE") {
        return Ok(());
    }
    cursor.blanks();
    if cursor.first() == Some(b'"') {
        return Err(Fault::QuotedName);
    }
    let name = cursor.metric_name();
    if cursor.is_empty() {
        return Ok(());
    }
    if !cursor.blanks() {
        return Err(Fault::Name);
    }
    if cursor.is_empty() {
        return Ok(());
    }
    if keyword == b"HELP" {
        if families.checked(name).is_some_and(|family| family.has_help) {
            return Err(Fault::SecondHelp);
        }
        return if escapes(cursor.0, b"\\n").is_ok() { Ok(()) } else { Err(Fault::Escape) };
    }
    if families.checked(name).is_some_and(|family| family.kind.is_some() || family.series > 0) {
        return Err(Fault::LateType);
    }
    let kinds: [&[u8]; 6] =
        [b"counter", b"gauge", b"summary", b"untyped", b"histogram", b"gauge_histogram"];
    let is_known = kinds.iter().any(|kind| kind.eq_ignore_ascii_case(cursor.0));
    if is_known { Ok(()) } else { Err(Fault::Type) }
}

fn sample(mut cursor: Cursor<'_>, families: &Table) -> Result<(), Fault> {
    let name = cursor.metric_name();
    if name.is_empty() {
        let is_braced = cursor.first() == Some(b'{');
        return Err(if is_braced { Fault::QuotedName } else { Fault::Name });
    }
    cursor.blanks();
    if cursor.takes(b'{') {
        let kind = families.checked(name).and_then(|family| family.kind);
        labels(&mut cursor, kind)?;
        cursor.blanks();
    }
    let value = cursor.take_while(|byte| !is_blank(byte) && byte != b'\n');
    float(value).ok_or(Fault::Value)?;
    if !cursor.blanks() {
        return Ok(());
    }
    // For promtool, blanks at the end announce a timestamp.
    if is_integer(cursor.0) { Ok(()) } else { Err(Fault::Timestamp) }
}

fn labels(cursor: &mut Cursor<'_>, kind: Option<MetricType>) -> Result<(), Fault> {
    let mut names: Vec<&[u8]> = Vec::new();
    loop {
        cursor.blanks();
        if cursor.takes(b'}') {
            break;
        }
        if cursor.first() == Some(b'"') {
            return Err(Fault::QuotedName);
        }
        let name = cursor.label_name();
        cursor.blanks();
        if name.is_empty() || !cursor.takes(b'=') {
            return Err(Fault::Labels);
        }
        if name == b"__name__" {
            return Err(Fault::ReservedLabel);
        }
        let is_bound = match kind {
            Some(MetricType::Summary) => name == b"quantile",
            Some(MetricType::Histogram) => name == b"le",
            _ => false,
        };
        if !is_bound {
            names.push(name);
        }
        cursor.blanks();
        let value = value(cursor)?;
        if is_bound && float(value).is_none() {
            return Err(Fault::Bound);
        }
        cursor.blanks();
        if !cursor.takes(b',') && cursor.first() != Some(b'}') {
            return Err(Fault::Labels);
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() == count { Ok(()) } else { Err(Fault::DuplicateLabel) }
}

/// Takes a label value, with escapes not resolved.
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    if !cursor.takes(b'"') {
        return Err(Fault::Labels);
    }
    let mut end = 0;
    loop {
        let rest = &cursor.0[end..];
        match memchr::memchr3(b'"', b'\\', b'\n', rest).map(|at| (at, rest[at])) {
            Some((at, b'"')) => {
                end += at;
                break;
            }
            Some((at, b'\\')) => match rest.get(at + 1) {
                Some(b'"' | b'\\' | b'n') => end += at + 2,
                Some(_) => return Err(Fault::Escape),
                None => return Err(Fault::OpenQuote),
            },
            Some(_) => return Err(Fault::RawNewline),
            None => return Err(Fault::OpenQuote),
        }
    }
    let value = cursor.split(end);
    cursor.takes(b'"');
    std::str::from_utf8(value).map_err(|_| Fault::NotUtf8)?;
    Ok(value)
}

/// Checks that every backslash precedes one of the bytes in `known`.
fn escapes(text: &[u8], known: &[u8]) -> Result<(), Fault> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        match rest.get(at + 1) {
            Some(escaped) if known.contains(escaped) => rest = &rest[at + 2..],
            Some(_) | None => return Err(Fault::Escape),
        }
    }
    Ok(())
}
