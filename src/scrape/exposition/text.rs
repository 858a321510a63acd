//! Parses one record of the text format by the rules of Prometheus' scraper.
//!
//! Follows the lexer `model/textparse/promlex.l` and the parser `promparse.go` of Prometheus 2.42
//! and 3, and not the description of the format, which is stricter in places and laxer in others.

use super::{
    cursor::{Cursor, is_blank, is_float, is_integer},
    fault::Fault,
    format::{ExpositionFormat, kind},
    labels::Labels,
    line::{Line, Name, Taken},
    names::{family_name, label_value, quoted_name},
};

/// Parses a record: a line without its newline, or several lines if label values contain newlines.
pub(super) fn parse(record: &[u8]) -> Result<Taken<'_>, Fault> {
    let mut cursor = Cursor(record);
    let is_indented = cursor.blanks();
    match cursor.first() {
        None => Ok(Line::Nothing.into()),
        Some(0) => Ok(end()),
        Some(b'#') => comment(Cursor(&cursor.0[1..])),
        Some(_) => {
            let (name, remark) = sample(cursor)?;
            let remark = if is_indented { Some(Fault::Indented) } else { remark };
            Ok(Taken { line: Line::Sample(name), remark })
        }
    }
}

/// The lexer takes a NUL byte as the end of the text.
fn end() -> Taken<'static> {
    Taken { line: Line::End, remark: Some(Fault::Nul) }
}

/// Parses a comment, after its `#`.
fn comment(mut cursor: Cursor<'_>) -> Result<Taken<'_>, Fault> {
    let is_separated = cursor.blanks();
    // In a comment that starts with a blank, the lexer skips NUL bytes, except for a leading one.
    if cursor.first() == Some(0) || (!is_separated && cursor.0.contains(&0)) {
        return Ok(end());
    }
    let keyword = cursor.word();
    let is_known = is_separated && matches!(keyword, b"HELP" | b"TYPE");
    // A keyword at the end of the line is an ordinary comment.
    if !is_known || !cursor.blanks() {
        return Ok(Line::Nothing.into());
    }
    let (name, remark) = family_name(&mut cursor)?;
    if name.is_empty() && remark.is_none() || cursor.first() == Some(0) {
        return Err(Fault::Name);
    }
    // Exactly one byte separates the name from the rest. It can be any byte.
    let words = cursor.0.get(1..).unwrap_or_default();
    if keyword == b"TYPE" {
        let kind = kind(words, ExpositionFormat::Text).ok_or(Fault::Type)?;
        return Ok(Taken { line: Line::Type(Name(name), kind), remark });
    }
    if std::str::from_utf8(words).is_err() {
        return Err(Fault::NotUtf8);
    }
    let is_silent = cursor.0.iter().all(|&byte| is_blank(byte));
    let line = if is_silent { Line::About(Name(name)) } else { Line::Help(Name(name)) };
    Ok(Taken { line, remark })
}

fn sample(mut cursor: Cursor<'_>) -> Result<(Name<'_>, Option<Fault>), Fault> {
    let bare = cursor.metric_name();
    let mut name = Some(bare).filter(|name| !name.is_empty());
    if name.is_some() {
        cursor.blanks();
    } else if cursor.first() != Some(b'{') {
        return Err(Fault::Name);
    }
    let mut remark = None;
    if cursor.takes(b'{') {
        labels(&mut cursor, &mut name, &mut remark)?;
    }
    let name = name.ok_or(Fault::Name)?;
    cursor.blanks();
    let value = cursor.take_while(|byte| !is_blank(byte) && !matches!(byte, b'{' | b'\n' | 0));
    if !is_float(value) {
        return Err(Fault::Value);
    }
    cursor.blanks();
    let timestamp = cursor.take_while(|byte| byte.is_ascii_digit());
    cursor.blanks();
    if !cursor.is_empty() || !(timestamp.is_empty() || is_integer(timestamp)) {
        return Err(Fault::Timestamp);
    }
    Ok((Name(name), remark))
}

/// Parses labels up to the closing brace. A quoted string without a value is the metric name, if
/// there is no name yet. Commas between labels are optional.
fn labels<'a>(
    cursor: &mut Cursor<'a>,
    name: &mut Option<&'a [u8]>,
    remark: &mut Option<Fault>,
) -> Result<(), Fault> {
    let mut found = Labels::default();
    loop {
        cursor.blanks();
        if cursor.takes(b'}') {
            return found.check();
        }
        let is_quoted = cursor.first() == Some(b'"');
        let label = if is_quoted { quoted_name(cursor)? } else { cursor.label_name() };
        cursor.blanks();
        if is_quoted {
            *remark = Some(Fault::QuotedName);
            let is_metric_name = matches!(cursor.first(), Some(b',' | b'}'));
            if is_metric_name {
                if label.is_empty() || name.replace(label).is_some() {
                    return Err(Fault::Labels);
                }
                cursor.takes(b',');
                continue;
            }
        }
        let is_named = is_quoted || !label.is_empty();
        if !is_named || !cursor.takes(b'=') {
            return Err(Fault::Labels);
        }
        cursor.blanks();
        let value = label_value(cursor)?;
        if is_quoted {
            found.add_quoted(label, value)
        } else {
            found.add(label, value)
        }
        cursor.blanks();
        cursor.takes(b',');
    }
}
