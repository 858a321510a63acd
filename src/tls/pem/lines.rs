//! Finds the lines that begin or end a block.

use super::{block::Damage, label::is_known_label};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file, trimmed, with their numbers from 1.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(bytes);
    let lines = std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(bytes);
        };
        let is_crlf = bytes[end..].starts_with(b"\r\n");
        rest = Some(&bytes[end + if is_crlf { 2 } else { 1 }..]);
        Some(&bytes[..end])
    });
    lines.enumerate().map(|(index, line)| (index + 1, trimmed(line)))
}

/// Removes spaces around the line and byte-order marks before it. A byte-order mark is in the
/// middle of a file if files were concatenated.
fn trimmed(line: &[u8]) -> &[u8] {
    let mut line = line.trim_ascii();
    while let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK) {
        line = rest.trim_ascii_start();
    }
    line
}

/// A line that begins or ends a block, or that was probably meant to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    Begin(String),
    End(String),
    Damaged { is_begin: bool, label: String, damage: Damage },
}

const HYPHENS: &str = "-----";

impl Boundary {
    /// What a trimmed line is. `None` for any other text.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        // Most lines are base64, which contains neither a hyphen nor a space.
        let is_base64 = |byte: &u8| byte.is_ascii() && *byte != b'-' && !byte.is_ascii_whitespace();
        if line.iter().all(is_base64) {
            return None;
        }
        let line = String::from_utf8_lossy(line);
        Self::exact(&line)
            .or_else(|| Self::almost(&line))
            .or_else(|| Self::without_hyphens_or_blank(&line))
    }

    fn exact(line: &str) -> Option<Self> {
        let inner = line.strip_prefix(HYPHENS)?.strip_suffix(HYPHENS)?;
        let (is_begin, label) = match (inner.strip_prefix("BEGIN "), inner.strip_prefix("END ")) {
            (Some(label), _) => (true, label),
            (None, Some(label)) => (false, label),
            (None, None) => return None,
        };
        let is_exact = !label.starts_with('-') && !label.ends_with('-');
        if !is_exact || label.contains(HYPHENS) {
            return None;
        }
        let label = label.to_owned();
        Some(if is_begin { Self::Begin(label) } else { Self::End(label) })
    }

    /// A line that a person would take for a boundary: `BEGIN` or `END` after dashes of any kind.
    fn almost(line: &str) -> Option<Self> {
        let (at, word) =
            ["BEGIN ", "END "].into_iter().find_map(|word| Some((find(line, word)?, word)))?;
        let (is_begin, after) = (word == "BEGIN ", &line[at + word.len()..]);
        let dashes = line[..at].trim_end();
        let before = dashes.trim_end_matches(is_dash);
        let count = dashes[before.len()..].chars().count();
        let before = before.trim_end();
        // Prose contains dashes too, and a sentence may mention an END line.
        let is_text = if before.is_empty() { count < 2 } else { count < 4 || !is_begin };
        if is_text {
            return None;
        }
        let label = after.split(is_dash).next().unwrap_or_default().trim().to_owned();
        let is_commented = ["#", ";", "//"].iter().any(|sign| before.starts_with(sign));
        let damage = if is_commented {
            Damage::CommentedOut
        } else if !before.is_empty() {
            Damage::TextBefore
        } else if is_begin && after.contains("-END ") {
            Damage::OneLine
        } else {
            Damage::Malformed
        };
        Some(Self::Damaged { is_begin, label, damage })
    }

    /// `BEGIN CERTIFICATE` or `-----BEGINCERTIFICATE-----`. Only with a known label, because the
    /// line may be prose.
    fn without_hyphens_or_blank(line: &str) -> Option<Self> {
        let is_edge = |c: char| is_dash(c) || c.is_whitespace();
        let inner = line.trim_matches(is_edge);
        let (is_begin, label) = match (inner.strip_prefix("BEGIN"), inner.strip_prefix("END")) {
            (Some(label), _) => (true, label),
            (None, Some(label)) => (false, label),
            (None, None) => return None,
        };
        let label = label.trim_start_matches(is_edge);
        let boundary =
            Self::Damaged { is_begin, label: label.to_owned(), damage: Damage::Malformed };
        is_known_label(label).then_some(boundary)
    }
}

/// Lines outside a block that look like the contents of one.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) last: usize,
    /// The number of lines that are at least as long as OpenSSL's lines.
    long: usize,
    has_end: bool,
}

/// The length at which OpenSSL wraps base64. MIME wraps at 76.
const WRAPPED: usize = 64;

impl Run {
    /// Begins a run with this line, if the line is long enough.
    pub(super) fn begin(text: &[u8], line: usize) -> Option<Self> {
        is_long(text).then_some(Self { first: line, last: line, long: 1, has_end: false })
    }

    /// Adds the next line: another long line, or a last line that is short or padded. False if the
    /// line does not belong to the run.
    pub(super) fn takes(&mut self, text: &[u8], line: usize) -> bool {
        if self.has_end || text.is_empty() || !is_base64(unpadded(text)) {
            return false;
        }
        if is_long(text) {
            self.long += 1
        } else {
            self.has_end = true
        }
        self.last = line;
        true
    }

    /// One long line may be a fingerprint or a heading.
    pub(super) fn looks_like_a_block(&self) -> bool {
        self.long > 1
    }
}

fn is_long(text: &[u8]) -> bool {
    text.len() >= WRAPPED && is_base64(text)
}

fn is_base64(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn unpadded(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    text.strip_suffix(b"=").unwrap_or(text)
}

/// The hyphen, and the characters that word processors replace it with.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}')
}

/// The position of the first `word` after a dash. Case is ignored.
fn find(line: &str, word: &str) -> Option<usize> {
    line.char_indices().map(|(at, _)| at).find(|&at| {
        let found = line.get(at..at + word.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
            && line[..at].trim_end().ends_with(is_dash)
    })
}
