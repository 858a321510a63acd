//! Finds the end of a record: of a line, or of a sample with line feeds in its label values.
//!
//! In the text format, Prometheus' lexer takes a raw line feed inside quotes as a part of the label
//! value, so that a sample can have several lines. In OpenMetrics, each line feed ends a record.

use memchr::{memchr, memchr2, memchr3, memrchr2};

/// How far a record has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Before the name.
    Start,
    /// Inside the name.
    Name,
    /// After the name, before the labels or the value.
    AfterName,
    /// Inside the braces, but not inside quotes.
    Labels,
    /// Inside quotes.
    Quoted,
    /// After a backslash inside quotes.
    Escaped,
    /// Where each line feed ends the record.
    Outside,
    /// After the last byte of the record.
    Ended,
}

impl Position {
    /// Reads the next bytes of a record of the text format. Returns the length of the record within
    /// `bytes`, with its line feed, or `None` if the record continues after them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let byte = rest[0];
            let (taken, next) = match *self {
                Self::Ended => return Some(at),
                Self::Outside => return memchr(b'\n', rest).map(|found| at + found + 1),
                Self::Quoted => match memchr2(b'"', b'\\', rest) {
                    None => return None,
                    Some(found) if rest[found] == b'"' => (found + 1, Self::Labels),
                    Some(found) => (found + 1, Self::Escaped),
                },
                Self::Escaped => (1, Self::Quoted),
                Self::Labels => match memchr3(b'"', b'}', b'\n', rest) {
                    None => return None,
                    Some(found) => match rest[found] {
                        b'"' => (found + 1, Self::Quoted),
                        b'}' => (found + 1, Self::Outside),
                        _ => return Some(at + found + 1),
                    },
                },
                Self::Start | Self::Name | Self::AfterName if byte == b'\n' => return Some(at + 1),
                Self::Start | Self::Name | Self::AfterName if byte == b'{' => (1, Self::Labels),
                Self::Start | Self::AfterName if is_blank(byte) => (1, *self),
                Self::Start if byte == b'#' => (1, Self::Outside),
                Self::Name if is_blank(byte) => (1, Self::AfterName),
                Self::Start | Self::Name => (1, Self::Name),
                Self::AfterName => (1, Self::Outside),
            };
            at += taken;
            *self = next;
        }
        None
    }
}

/// What to do with a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) passes: bool,
    /// Where the end of the record is searched, counted from its beginning.
    pub(super) from: usize,
    /// The position there.
    pub(super) position: Position,
}

impl Verdict {
    /// Where records do not span lines, each line feed ends one.
    pub(super) fn new(passes: bool, from: usize, position: Position, spans_lines: bool) -> Self {
        Self { passes, from, position: if spans_lines { position } else { Position::Outside } }
    }
}

/// Whether the line feed after `line`, which begins at `position` of a record, ends the record for
/// certain.
///
/// This is [`Position::advance`] for almost all records, and faster.
pub(super) fn ends_record(line: &[u8], position: Position) -> bool {
    match (position, line) {
        (Position::Outside, _) => true,
        (Position::Name | Position::AfterName, [b' ', value, ..])
            if !is_blank(*value) && *value != b'{' =>
        {
            true
        }
        (Position::Start | Position::Ended, _) => false,
        (_, line) => ends_after_labels(line),
    }
}

/// Whether the bytes after this position can stay unread until the next line feed:
/// [`ends_after_labels`] usually finds the end without them.
pub(super) fn may_be_held(position: Position) -> bool {
    use Position::{AfterName, Escaped, Labels, Name, Quoted};
    matches!(position, Name | AfterName | Labels | Quoted | Escaped)
}

/// Whether a line feed after this line ends the record for certain.
///
/// A valid sample with labels ends with `"}` and a value, and no quote follows. If this quote opens a
/// label value instead of closing one, then the byte before the quote is one that can precede a label
/// value or a quoted name. Only the end of the line matters, so the beginning of the record need not be
/// part of `line`.
#[inline]
pub(super) fn ends_after_labels(line: &[u8]) -> bool {
    memrchr2(b'}', b'"', line).is_some_and(|last| match &line[..=last] {
        [.., before, b'"', b'}'] => {
            !matches!(before, b'=' | b'{' | b',' | b' ' | b'\t' | b'"' | b'\\')
        }
        _ => false,
    })
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
