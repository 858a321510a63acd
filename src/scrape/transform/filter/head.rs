//! Reads the beginning of a record, up to the end of its metric name.
//!
//! An unquoted name ends at a blank, a brace or the end of the line, whatever else it contains. A
//! name that Prometheus would refuse is compared like any other. `scrape::exposition` reads whole
//! records instead, and finds out which of them are valid.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};

use super::record::{Position, is_blank};
use crate::scrape::exposition::{MetricType, unescaped};

/// Longest type in a `# TYPE` line, in bytes: `gaugehistogram`.
const LONGEST_TYPE: usize = 14;

/// The beginning of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    /// The name is not complete.
    Unfinished,
    /// Only blanks so far, and more bytes follow.
    Blank,
    /// A record without a metric name: an empty line, a comment, `# EOF`, or what no parser accepts.
    Nameless(Position),
    /// `# HELP`, `# UNIT`, or `# TYPE` with the type.
    Metadata { name: Cow<'a, [u8]>, kind: Option<MetricType> },
    /// A sample.
    Sample {
        name: Cow<'a, [u8]>,
        /// Length of the head, up to the end of the name and its quote.
        length: usize,
        /// The position at the end of the head.
        position: Position,
    },
}

/// What follows the bytes that are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    More,
    /// The body ends.
    End,
}

/// Reads the head of a record that begins with `bytes`. In OpenMetrics, quotes contain no line feed.
pub(super) fn read(bytes: &[u8], then: Then, spans_lines: bool) -> Head<'_> {
    let mut cursor = Cursor { bytes, at: 0 };
    let head = match cursor.skip_blanks() {
        None if then == Then::More => Some(Head::Blank),
        None => None,
        Some(b'\n' | b'\r') => Some(Head::Nameless(Position::Outside)),
        Some(b'#') => metadata(&mut cursor, then),
        Some(b'{') => inside_braces(&mut cursor, spans_lines),
        Some(_) => cursor.word(then, b'{').map(|name| Head::Sample {
            name: Cow::Borrowed(name),
            length: cursor.at,
            position: Position::AfterName,
        }),
    };
    match (head, then) {
        (Some(head), _) => head,
        (None, Then::More) => Head::Unfinished,
        (None, Then::End) => Head::Nameless(Position::Outside),
    }
}

/// Whether these bytes are blanks, a `#`, and again blanks. If the longest beginning of a line that is
/// kept looks like this, the line counts as a comment and passes.
pub(super) fn is_blank_comment(bytes: &[u8]) -> bool {
    let mut hashes = bytes.iter().filter(|&&byte| !is_blank(byte));
    hashes.next() == Some(&b'#') && hashes.next().is_none()
}

/// Reads a comment, from its `#`. `None` if it is not complete.
fn metadata<'a>(cursor: &mut Cursor<'a>, then: Then) -> Option<Head<'a>> {
    const COMMENT: Option<Head<'_>> = Some(Head::Nameless(Position::Outside));
    cursor.at += 1;
    let is_separated = is_blank(cursor.first()?);
    cursor.skip_blanks()?;
    let rest = &cursor.bytes[cursor.at..];
    let keyword = &rest[..rest.len().min(4)];
    let is_keyword = [b"HELP", b"TYPE", b"UNIT"].iter().any(|known| known.starts_with(keyword));
    if !is_separated || !is_keyword {
        return COMMENT;
    }
    cursor.at += keyword.len();
    if !is_blank(cursor.first()?) {
        return COMMENT;
    }
    let name = match cursor.skip_blanks()? {
        b'"' => cursor.quoted(false)?.map(unescaped),
        _ => Some(Cow::Borrowed(cursor.word(then, b' ')?)).filter(|name| !name.is_empty()),
    };
    let Some(name) = name else { return COMMENT };
    let kind = if keyword == b"TYPE" { cursor.kind(then)? } else { None };
    Some(Head::Metadata { name, kind })
}

/// Reads a sample whose name is in its braces: a quoted string without a value, usually the first.
fn inside_braces<'a>(cursor: &mut Cursor<'a>, spans_lines: bool) -> Option<Head<'a>> {
    let nameless = Head::Nameless(if spans_lines { Position::Start } else { Position::Outside });
    cursor.at += 1;
    let mut is_value = false;
    loop {
        match cursor.skip_blanks()? {
            b'"' => {
                let Some(text) = cursor.quoted(spans_lines)? else { return Some(nameless) };
                let length = cursor.at;
                if !std::mem::take(&mut is_value) {
                    match cursor.skip_blanks()? {
                        b',' | b'}' => {
                            let position = Position::Labels;
                            return Some(Head::Sample { name: unescaped(text), length, position });
                        }
                        b'=' => {}
                        _ => return Some(nameless),
                    }
                }
            }
            b'}' | b'\n' => return Some(nameless),
            byte => {
                is_value = byte == b'=';
                cursor.at += 1;
            }
        }
    }
}

/// The bytes of a head. Each method returns `None` if it needs more of them.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn first(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips blanks, and returns the byte after them.
    fn skip_blanks(&mut self) -> Option<u8> {
        while is_blank(self.first()?) {
            self.at += 1;
        }
        self.first()
    }

    /// Takes a word up to a blank, the end of the line, or `other`. The end of the body ends a word
    /// too.
    fn word(&mut self, then: Then, other: u8) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = memchr3(b' ', b'\n', other, rest);
        // These are rare, and there can be only three bytes in one search.
        let end = memchr2(b'\t', b'\r', &rest[..end.unwrap_or(rest.len())]).or(end);
        let length = if then == Then::End { end.unwrap_or(rest.len()) } else { end? };
        self.at += length;
        Some(&rest[..length])
    }

    /// Takes a quoted string, and returns the text between the quotes. The next byte is the opening
    /// quote. `Some(None)` if the string contains a line feed and must not.
    fn quoted(&mut self, spans_lines: bool) -> Option<Option<&'a [u8]>> {
        let from = self.at + 1;
        self.at = from;
        loop {
            match self.first()? {
                b'"' => {
                    self.at += 1;
                    return Some(Some(&self.bytes[from..self.at - 1]));
                }
                b'\n' if !spans_lines => return Some(None),
                b'\\' => {
                    self.at += 1;
                    let escaped = self.first()?;
                    if escaped == b'\n' && !spans_lines {
                        return Some(None);
                    }
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Takes the type after the name of a `# TYPE` line.
    fn kind(&mut self, then: Then) -> Option<Option<MetricType>> {
        self.skip_blanks();
        let word = self.word(Then::End, b' ')?;
        let is_whole = self.first().is_some() || then == Then::End || word.len() > LONGEST_TYPE;
        is_whole.then(|| MetricType::of_word(word))
    }
}
