//! A filter of metric families:
//!
//! - Its output is that of [`reference`], which has the whole text in memory and reads it line by
//!   line, however the body is split, and with pauses or without. This holds for OpenMetrics, and for
//!   each text whose samples with labels end as valid samples do.
//! - For any other text, the output consists of lines of the text, in their order.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use scrapegate::{
    common::families::{FamilyPattern, FamilyRules},
    scrape::{
        exposition::ExpositionFormat,
        transform::{
            Out, Transform,
            filter::{Filter, MAX_HEAD},
        },
    },
};

/// `metrics-keep` and `metrics-drop`. The names are short, so that inputs often have them.
const RULES: [(&str, &str); 6] =
    [("", "a"), ("", "a.*"), ("b|c", ""), ("[a-c]+", "b"), ("", "a_sum|b_bucket"), (".*", "-")];

/// Asserts the properties. The first bytes of `input` choose the format, the rules, and the sizes of
/// the pieces. The rest is the body.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let Some((settings, body)) = input.split_first_chunk::<4>() else { return };
    let [choice, sizes @ ..] = *settings;
    let is_openmetrics = choice % 2 == 1;
    let (keep, drop) = RULES[usize::from(choice / 2) % RULES.len()];
    let pattern =
        |source: &str| (!source.is_empty()).then(|| FamilyPattern::new(source).expect("valid"));
    let rules = FamilyRules::new(pattern(keep), pattern(drop)).expect("one of the two");

    let expected = reference(body, is_openmetrics, &|name| rules.passes(name));
    let sizes = sizes.map(|size| usize::from(size) + 1);
    for sizes in [[body.len().max(1); 3], sizes, [1; 3]] {
        let output = filtered(&rules, is_openmetrics, body, sizes);
        match &expected {
            Some(expected) => assert_eq!(
                output.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "in pieces of {sizes:?}"
            ),
            // The blanks before a line that is left out pass.
            None if has_many_blanks(body) => {}
            None => assert_lines_of(&output, body),
        }
    }
}

/// The output for a body in pieces of these sizes, by turns.
fn filtered(
    rules: &FamilyRules,
    is_openmetrics: bool,
    mut body: &[u8],
    sizes: [usize; 3],
) -> Vec<u8> {
    let format =
        if is_openmetrics { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
    let mut filter = Filter::new(rules.clone(), format, Arc::<AtomicU64>::default());
    let mut output = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !body.is_empty() {
        let size = sizes.next().map_or(1, |size| *size).min(body.len());
        let (piece, rest) = body.split_at(size);
        body = rest;
        let mut out = Out::default();
        filter.push(Bytes::copy_from_slice(piece), &mut out).expect("a filter never fails");
        if size % 2 == 1 {
            filter.flush(&mut out).expect("a filter never fails");
        }
        output.extend(out.into_iter().flatten());
    }
    let mut out = Out::default();
    filter.finish(&mut out).expect("a filter never fails");
    output.extend(out.into_iter().flatten());
    output
}

/// Asserts that the lines of `part` are lines of `whole`, in their order.
fn assert_lines_of(part: &[u8], whole: &[u8]) {
    let mut lines = whole.split_inclusive(|&byte| byte == b'\n');
    for line in part.split_inclusive(|&byte| byte == b'\n') {
        assert!(lines.any(|it| it == line), "{} is new", line.escape_ascii());
    }
}

/// What a filter must leave of a whole text. `None` if a sample of the text format with labels does
/// not end as every valid sample does, so that the end of the record is uncertain.
fn reference(body: &[u8], is_openmetrics: bool, passes: &dyn Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut text = body;
    let mut output = Vec::new();
    // The type of each family that has begun.
    let mut families: BTreeMap<Vec<u8>, Option<&str>> = BTreeMap::new();
    while !text.is_empty() {
        let (record, rest) = text.split_at(record_length(text, is_openmetrics)?);
        text = rest;
        let is_passed = match subject(record, is_openmetrics) {
            Subject::None => true,
            Subject::TooLong => false,
            Subject::Metadata(name, kind) => {
                let is_passed = passes(&name);
                let known = families.entry(name).or_default();
                *known = known.or(kind);
                is_passed
            }
            Subject::Sample(name) => {
                let stem = if families.contains_key(&name) { None } else { stem(&name, &families) };
                match stem {
                    Some(stem) => passes(stem),
                    None => {
                        let is_passed = passes(&name);
                        families.entry(name).or_default();
                        is_passed
                    }
                }
            }
        };
        if is_passed {
            output.extend_from_slice(record);
        }
    }
    Some(output)
}

fn has_many_blanks(text: &[u8]) -> bool {
    text.split(|byte| !b" \t".contains(byte)).any(|blanks| blanks.len() >= MAX_HEAD)
}

/// The length of the first record. As many blanks as a head may have bytes are a record.
fn record_length(text: &[u8], is_openmetrics: bool) -> Option<usize> {
    if has_many_blanks(text.get(..MAX_HEAD).unwrap_or_default()) {
        return Some(MAX_HEAD);
    }
    let line = text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1);
    let first = text.iter().position(|byte| !b" \t".contains(byte))?;
    if is_openmetrics || text[first] == b'#' {
        return Some(line);
    }
    // Labels begin with the name's brace, or with a brace after blanks.
    let in_name = |&byte: &u8| !b" \t\r\n{".contains(&byte);
    let name = text[first..].iter().take_while(|byte| in_name(byte)).count();
    let blanks = text[first + name..].iter().take_while(|byte| b" \t".contains(byte)).count();
    let brace = first + name + blanks;
    if text.get(brace) != Some(&b'{') {
        return Some(line);
    }
    let (mut at, mut quoted) = (brace + 1, false);
    // Where a quoted string may begin.
    let mut may_open = true;
    loop {
        let byte = *text.get(at)?;
        match (byte, quoted) {
            // The lexer of Prometheus skips a NUL byte.
            (0, _) => return None,
            (b'\\', true) => at += 1,
            (b'"', true) => (quoted, may_open) = (false, false),
            (b'"', false) if may_open => quoted = true,
            // A quote where valid labels have none.
            (b'"' | b'\n' | b'{', false) => return None,
            (b'}', false) => break,
            (b' ' | b'\t', false) | (_, true) => {}
            (b'=' | b',', false) => may_open = true,
            (_, false) => may_open = false,
        }
        at += 1;
    }
    let end =
        text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |it| at + it + 1);
    // The value has neither braces nor quotes.
    (!text[at + 1..end].iter().any(|byte| b"{}\"\0".contains(byte))).then_some(end)
}

enum Subject {
    None,
    TooLong,
    Metadata(Vec<u8>, Option<&'static str>),
    Sample(Vec<u8>),
}

/// What a record is about.
fn subject(record: &[u8], is_openmetrics: bool) -> Subject {
    // As many bytes as a head may have are judged before it is known that the body ends there.
    if record.len() < MAX_HEAD || record.len() == MAX_HEAD && record.ends_with(b"\n") {
        return subject_within(record, is_openmetrics, true).unwrap_or(Subject::None);
    }
    let begin = skip_blanks(&record[..MAX_HEAD]);
    if begin.is_empty() || begin[0] == b'#' && skip_blanks(&begin[1..]).is_empty() {
        return Subject::None;
    }
    subject_within(&record[..MAX_HEAD], is_openmetrics, false).unwrap_or(Subject::TooLong)
}

/// `None` if the bytes end too early to know.
fn subject_within(record: &[u8], is_openmetrics: bool, is_end: bool) -> Option<Subject> {
    let line = skip_blanks(record);
    let first = *line.first()?;
    if matches!(first, b'\n' | b'\r') {
        return Some(Subject::None);
    }
    if first == b'#' {
        return comment(&line[1..], is_end);
    }
    if first == b'{' {
        return braces(&line[1..], is_openmetrics);
    }
    let name = until(line, b" \t\r\n{");
    (is_end || name.len() < line.len()).then(|| Subject::Sample(name.to_vec()))
}

fn comment(text: &[u8], is_end: bool) -> Option<Subject> {
    let words = skip_blanks(text);
    let is_separated = words.len() < text.len();
    if words.is_empty() {
        return if text.is_empty() || is_separated { None } else { Some(Subject::None) };
    }
    let keyword = until(words, b" \t\r\n");
    let known = [&b"HELP"[..], b"TYPE", b"UNIT"];
    let may_be_known = is_separated && known.iter().any(|word| word.starts_with(keyword));
    if keyword.len() == words.len() && may_be_known {
        return None;
    }
    if !is_separated || !known.contains(&keyword) || matches!(words[keyword.len()], b'\r' | b'\n') {
        return Some(Subject::None);
    }
    let rest = skip_blanks(&words[keyword.len()..]);
    let (name, rest) = match rest.first()? {
        b'"' => {
            let line = until(rest, b"\n");
            let ends = line.len() < rest.len();
            match quoted(line) {
                Some((name, rest)) => (name, rest),
                None if ends => return Some(Subject::None),
                None => return None,
            }
        }
        _ => {
            let name = until(rest, b" \t\r\n");
            if name.len() == rest.len() && !is_end {
                return None;
            }
            if name.is_empty() {
                return Some(Subject::None);
            }
            (name.to_vec(), &rest[name.len()..])
        }
    };
    let kind = match keyword {
        b"TYPE" => {
            let rest = skip_blanks(rest);
            let word = until(rest, b" \t\r\n");
            let may_continue = word.len() == rest.len() && word.len() <= "gaugehistogram".len();
            if may_continue && !is_end {
                return None;
            }
            kind(word)
        }
        _ => None,
    };
    Some(Subject::Metadata(name, kind))
}

fn kind(word: &[u8]) -> Option<&'static str> {
    [
        "counter",
        "gauge",
        "histogram",
        "summary",
        "untyped",
        "unknown",
        "gaugehistogram",
        "info",
        "stateset",
    ]
    .into_iter()
    .find(|kind| kind.as_bytes() == word)
}

/// The name in braces: the first quoted string that is not the value of a label.
fn braces(text: &[u8], is_openmetrics: bool) -> Option<Subject> {
    let (mut rest, mut is_value) = (text, false);
    loop {
        rest = skip_blanks(rest);
        match *rest.first()? {
            b'"' => {
                let line = if is_openmetrics { until(rest, b"\n") } else { rest };
                let Some((string, _)) = quoted(line) else {
                    return if line.len() < rest.len() { Some(Subject::None) } else { None };
                };
                let length = quoted_length(line)?;
                rest = &rest[length..];
                if !is_value {
                    match *skip_blanks(rest).first()? {
                        b',' | b'}' => return Some(Subject::Sample(string)),
                        b'=' => {}
                        _ => return Some(Subject::None),
                    }
                }
                is_value = false;
            }
            b'}' | b'\n' => return Some(Subject::None),
            byte => {
                is_value = byte == b'=';
                rest = &rest[1..];
            }
        }
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| b" \t".contains(byte)).count();
    &text[blanks..]
}

/// The text before the first of these bytes, or all of it.
fn until<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
    let length = text.iter().take_while(|byte| !ends.contains(byte)).count();
    &text[..length]
}

/// The length of a quoted string with its quotes.
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate().skip(1) {
        match (byte, escaped) {
            (_, true) => escaped = false,
            (b'\\', false) => escaped = true,
            (b'"', false) => return Some(at + 1),
            (_, false) => {}
        }
    }
    None
}

/// A quoted string without escapes, and what follows it.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let length = quoted_length(text)?;
    let inside = &text[1..length - 1];
    let mut plain = Vec::new();
    let mut at = 0;
    while at < inside.len() {
        match inside[at..] {
            [b'\\', b'n', ..] => plain.push(b'\n'),
            [b'\\', escaped @ (b'\\' | b'"'), ..] => plain.push(escaped),
            [byte, ..] => {
                plain.push(byte);
                at += 1;
                continue;
            }
            [] => {}
        }
        at += 2;
    }
    Some((plain, &text[length..]))
}

/// The family whose suffix ends this name.
fn stem<'a>(name: &'a [u8], families: &BTreeMap<Vec<u8>, Option<&str>>) -> Option<&'a [u8]> {
    let parts: [(&str, &[&str]); 6] = [
        ("counter", &["_total", "_created"]),
        ("histogram", &["_bucket", "_sum", "_count", "_created"]),
        ("gaugehistogram", &["_bucket", "_gsum", "_gcount"]),
        ("summary", &["_sum", "_count", "_created"]),
        ("info", &["_info"]),
        ("gauge", &[]),
    ];
    parts.into_iter().find_map(|(kind, suffixes)| {
        suffixes.iter().find_map(|suffix| {
            let stem = name.strip_suffix(suffix.as_bytes())?;
            (families.get(stem) == Some(&Some(kind))).then_some(stem)
        })
    })
}
