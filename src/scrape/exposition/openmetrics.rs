//! Parses one line of OpenMetrics by the rules of Prometheus' scraper.
//!
//! Follows the lexer `model/textparse/openmetricslex.l` and the parser `openmetricsparse.go` of
//! Prometheus 2.42 and 3. Parts are separated by exactly one space.

use super::{
    cursor::{Cursor, float, is_float},
    fault::Fault,
    format::{ExpositionFormat, kind},
    labels::Labels,
    line::{Line, Name, Taken},
    names::{family_name, label_value, quoted_name},
};

/// Parses a line without its newline.
pub(super) fn parse(line: &[u8]) -> Result<Taken<'_>, Fault> {
    match line.first() {
        None => Err(Fault::Blank),
        Some(b'#') => comment(line),
        Some(_) => sample(Cursor(line)),
    }
}

fn comment(line: &[u8]) -> Result<Taken<'_>, Fault> {
    if let Some(rest) = line.strip_prefix(b"# EOF") {
        return if rest.is_empty() { Ok(Line::Eof.into()) } else { Err(Fault::AfterEof) };
    }
    let keywords: [&[u8]; 3] = [b"# HELP ", b"# TYPE ", b"# UNIT "];
    let found =
        keywords.into_iter().find_map(|keyword| Some((keyword, line.strip_prefix(keyword)?)));
    let (keyword, rest) = found.ok_or(Fault::Comment)?;
    let mut cursor = Cursor(rest);
    let (name, remark) = family_name(&mut cursor)?;
    if name.is_empty() && remark.is_none() {
        return Err(Fault::Name);
    }
    if !cursor.takes(b' ') {
        return Err(Fault::Metadata);
    }
    let words = cursor.0;
    let line = match keyword {
        b"# TYPE " => {
            Line::Type(Name(name), kind(words, ExpositionFormat::OpenMetrics).ok_or(Fault::Type)?)
        }
        b"# UNIT " => {
            let stem = name.strip_suffix(words).unwrap_or_default();
            if !words.is_empty() && stem.last() != Some(&b'_') {
                return Err(Fault::Unit);
            }
            Line::About(Name(name))
        }
        _ => {
            if std::str::from_utf8(words).is_err() {
                return Err(Fault::NotUtf8);
            }
            Line::Help(Name(name))
        }
    };
    Ok(Taken { line, remark })
}

fn sample(mut cursor: Cursor<'_>) -> Result<Taken<'_>, Fault> {
    let bare = cursor.metric_name();
    let mut name = Some(bare).filter(|name| !name.is_empty());
    if name.is_none() && cursor.first() != Some(b'{') {
        return Err(Fault::Name);
    }
    let mut remark = None;
    if cursor.takes(b'{') {
        labels(&mut cursor, Some(&mut name), &mut remark)?.check()?;
    }
    let name = name.ok_or(Fault::Name)?;
    if !is_float(part(&mut cursor).ok_or(Fault::Value)?) {
        return Err(Fault::Value);
    }
    let has_exemplar = |cursor: &Cursor<'_>| cursor.0.starts_with(b" # {");
    if !cursor.is_empty() && !has_exemplar(&cursor) {
        timestamp(&mut cursor).ok_or(Fault::Timestamp)?;
    }
    if has_exemplar(&cursor) {
        cursor.split(b" # {".len());
        if !name.ends_with(b"_bucket") && !name.ends_with(b"_total") {
            remark = Some(Fault::ExemplarName);
        }
        exemplar(&mut cursor, &mut remark)?;
    }
    if !cursor.is_empty() {
        return Err(Fault::Timestamp);
    }
    Ok(Taken { line: Line::Sample(Name(name)), remark })
}

/// Takes one space and the text up to the next space. `None` if that text is empty.
fn part<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let part = if cursor.takes(b' ') { cursor.take_while(|byte| byte != b' ') } else { b"" };
    Some(part).filter(|part| !part.is_empty())
}

/// Takes a timestamp in seconds: any finite number.
fn timestamp(cursor: &mut Cursor<'_>) -> Option<f64> {
    float(part(cursor)?).filter(|seconds| seconds.is_finite())
}

/// Parses an exemplar ` {labels} value [timestamp]` after its opening brace. Its labels need not be
/// unique.
fn exemplar(cursor: &mut Cursor<'_>, remark: &mut Option<Fault>) -> Result<(), Fault> {
    let start = cursor.0;
    let is_kept = |fault: &Fault| *fault == Fault::NotUtf8;
    labels(cursor, None, remark)
        .map_err(|fault| if is_kept(&fault) { fault } else { Fault::Exemplar })?;
    let read = &start[..start.len() - cursor.0.len()];
    let is_number = part(cursor).is_some_and(is_float);
    let has_time = cursor.is_empty() || timestamp(cursor).is_some();
    // In exemplars, the lexer does not skip NUL bytes.
    if is_number && has_time && !read.contains(&0) { Ok(()) } else { Err(Fault::Exemplar) }
}

/// Parses labels up to the closing brace. A quoted string without a value is the metric name, if
/// `name` is given and still empty.
fn labels<'a>(
    cursor: &mut Cursor<'a>,
    mut name: Option<&mut Option<&'a [u8]>>,
    remark: &mut Option<Fault>,
) -> Result<Labels<'a>, Fault> {
    let mut found = Labels::default();
    if cursor.takes(b'}') {
        return Ok(found);
    }
    loop {
        let is_quoted = cursor.first() == Some(b'"');
        let label = if is_quoted { quoted_name(cursor)? } else { cursor.label_name() };
        if is_quoted {
            *remark = Some(Fault::QuotedName);
        }
        if is_quoted && matches!(cursor.first(), Some(b',' | b'}')) {
            let name = name.as_deref_mut().ok_or(Fault::Labels)?;
            if label.is_empty() || name.replace(label).is_some() {
                return Err(Fault::Labels);
            }
        } else {
            let is_named = is_quoted || !label.is_empty();
            if !is_named || !cursor.takes(b'=') {
                return Err(Fault::Labels);
            }
            let value = label_value(cursor)?;
            if is_quoted { found.add_quoted(label, value) } else { found.add(label, value) }
        }
        let is_separated = cursor.takes(b',');
        if cursor.takes(b'}') {
            if is_separated {
                remark.get_or_insert(Fault::TrailingComma);
            }
            return Ok(found);
        }
        if !is_separated {
            return Err(Fault::Labels);
        }
    }
}
