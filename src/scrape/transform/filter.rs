//! Leaves metric families out of an exposition while it streams by: `metrics-keep` and
//! `metrics-drop`.
//!
//! The unit is a record: a line, or a sample with line feeds in its label values. What stays are
//! the exporter's own bytes: slices of the buffers that were read, and copies of short parts. A record need not be in one
//! piece: the name at its beginning decides, and the rest passes or is dropped as it arrives.
//! Only the beginning of a record is ever held, and at most [`MAX_HEAD`] bytes of it.
//!
//! - `head`: the beginning of a record, up to the end of its name.
//! - `record`: the end of a record.
//! - `negotiation`: what the exporter is asked for, and which of its answers can be filtered.
//! - `families`: which family a name belongs to, and whether it is passed on.

mod families;
mod head;
mod negotiation;
mod record;
#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use memchr::memchr;

pub use self::negotiation::{ask_for_text, format_of};
use self::{
    families::Families,
    head::{Head, Then},
    record::{Position, ends_after_labels, is_blank, usual_length},
};
use super::{Out, Transform};
use crate::{
    common::{error::Abort, families::FamilyRules},
    scrape::exposition::ExpositionFormat,
};

/// Limit for the beginning of a record up to the end of its name, in bytes. A record whose name does
/// not end within the limit is dropped, because it cannot be judged.
pub const MAX_HEAD: usize = 1024;

/// Length of almost all heads, in bytes.
const USUAL_HEAD: usize = 128;

/// Kept bytes of at least this length are passed on without a copy. Shorter ones are copied together:
/// a slice for each of many short lines would need more memory than the lines.
const SHARED: usize = 1024;

/// Passes on the families that [`FamilyRules`] allow, with all their lines.
#[derive(Debug)]
pub struct Filter {
    /// Whether a label value may contain a line feed, as in the text format.
    spans_lines: bool,
    families: Families,
    last: LastSample,
    state: State,
}

/// The sample before this one. Usually the next one has the same name.
#[derive(Debug)]
struct LastSample {
    /// The bytes up to the end of the name. Empty after a record that is not a sample.
    head: Vec<u8>,
    /// The position after the head.
    position: Position,
    passes: bool,
}

#[derive(Debug)]
enum State {
    /// At the beginning of a record, with what has arrived of its head. Usually nothing.
    Head(Vec<u8>),
    /// Inside a record.
    Record { passes: bool, position: Position },
}

/// What to do with a record.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    passes: bool,
    /// Where the end of the record is searched, counted from its beginning.
    from: usize,
    /// The position there.
    position: Position,
}

/// Kept bytes of one piece that are not in the output yet.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

impl Kept {
    /// Adds the bytes of `data` in `range`.
    fn add(&mut self, data: &Bytes, range: Range<usize>, out: &mut Out) {
        if range.len() < SHARED {
            self.0.extend_from_slice(&data[range]);
        } else {
            self.seal(out);
            out.push(data.slice(range));
        }
    }

    /// Moves the copies to the output.
    fn seal(&mut self, out: &mut Out) {
        out.push(std::mem::take(&mut self.0).into());
    }
}

impl Filter {
    /// A filter for one body in `format`. It adds the number of families that it leaves out to
    /// `dropped`.
    #[must_use]
    pub fn new(rules: FamilyRules, format: ExpositionFormat, dropped: Arc<AtomicU64>) -> Self {
        Self {
            spans_lines: format == ExpositionFormat::Text,
            families: Families::new(rules, dropped),
            last: LastSample { head: Vec::new(), position: Position::AfterName, passes: true },
            state: State::Head(Vec::new()),
        }
    }

    /// Judges the record that begins with `bytes`. `None` if its name is not complete. At the end of
    /// the body there always is a verdict.
    fn judge(&mut self, bytes: &[u8], then: Then) -> Option<Verdict> {
        // The result must not depend on how the body is split.
        let (bytes, then) = match bytes.get(..MAX_HEAD) {
            Some(most) => (most, Then::More),
            None => (bytes, then),
        };
        let (passes, from, position) = match head::read(bytes, then, self.spans_lines) {
            Head::Unfinished | Head::Blank if bytes.len() < MAX_HEAD => return None,
            // The blanks pass. What follows them is judged by itself: a metric, or the end of a blank
            // line, or a comment.
            Head::Blank => {
                return Some(Verdict { passes: true, from: MAX_HEAD, position: Position::Ended });
            }
            Head::Unfinished if head::is_blank_comment(bytes) => (true, 0, Position::Outside),
            Head::Unfinished => {
                self.families.drop_unknown();
                self.last.head.clear();
                (false, 0, Position::Start)
            }
            Head::Nameless(position) => (true, 0, position),
            Head::Metadata { name, kind } => {
                self.last.head.clear();
                (self.families.metadata(&name, kind), 0, Position::Outside)
            }
            Head::Sample { name, length, position } => {
                let passes = self.families.sample(&name);
                self.last.head.clear();
                self.last.head.extend_from_slice(&bytes[..length]);
                self.last.position = position;
                self.last.passes = passes;
                (passes, length, position)
            }
        };
        Some(self.verdict(passes, from, position))
    }

    fn verdict(&self, passes: bool, from: usize, position: Position) -> Verdict {
        let position = if self.spans_lines { position } else { Position::Outside };
        Verdict { passes, from, position }
    }

    /// Completes the head of a record that began in an earlier piece, with the beginning of `data`.
    /// `None` if `data` is too short for that.
    fn complete_head(&mut self, mut held: Vec<u8>, data: &[u8], out: &mut Out) -> Option<Verdict> {
        let before = held.len();
        let most = data.len().min(MAX_HEAD - before);
        // Few bytes are usually enough.
        let few = most.min(USUAL_HEAD);
        held.extend_from_slice(&data[..few]);
        let verdict = self.judge(&held, Then::More).or_else(|| {
            held.extend_from_slice(&data[few..most]);
            if few < most { self.judge(&held, Then::More) } else { None }
        });
        let Some(mut verdict) = verdict else {
            self.state = State::Head(held);
            return None;
        };
        // A record that ends in the held bytes would have been judged before.
        if let Some(read) = held.get(verdict.from..before) {
            verdict.position.advance(read);
        }
        verdict.from = verdict.from.saturating_sub(before);
        if verdict.passes {
            held.truncate(before);
            out.push(held.into());
        }
        Some(verdict)
    }

    /// Passes on the records of `data`, from the verdict about the first one.
    fn records(&mut self, data: &Bytes, first: Option<Verdict>, out: &mut Out) {
        let (mut at, mut run) = (0, 0);
        let mut kept = Kept::default();
        let mut given = first;
        while at < data.len() {
            let rest = &data[at..];
            let (passes, length) = if let Some(verdict) = given.take() {
                (verdict.passes, self.end(rest, verdict))
            } else if let Some(length) = self.last.repeats(rest, self.spans_lines) {
                (self.last.passes, Some(length))
            } else if self.last.precedes(rest) {
                let LastSample { passes, position, ref head } = self.last;
                let verdict = self.verdict(passes, head.len(), position);
                (passes, self.end(rest, verdict))
            } else if let Some(verdict) = self.judge(rest, Then::More) {
                (verdict.passes, self.end(rest, verdict))
            } else {
                self.state = State::Head(rest.to_vec());
                break;
            };
            let end = length.map_or(data.len(), |length| at + length);
            if !passes {
                kept.add(data, run..at, out);
                run = end;
            }
            at = end;
        }
        kept.add(data, run..at, out);
        kept.seal(out);
    }

    /// The length of a record that has been judged. `None` if `bytes` end inside it.
    fn end(&mut self, bytes: &[u8], verdict: Verdict) -> Option<usize> {
        let Verdict { passes, from, mut position } = verdict;
        if position == Position::Ended {
            return Some(from);
        }
        let rest = &bytes[from..];
        let length = usual_length(rest, position).or_else(|| position.advance(rest));
        if length.is_none() {
            self.state = State::Record { passes, position };
        }
        length.map(|length| from + length)
    }
}

impl LastSample {
    /// The length of all samples with the same name at the beginning of `bytes`, if there is one
    /// that is complete.
    ///
    /// Inside a label value, a line can look like such a sample. The line then belongs to the family
    /// all the same. So only the end of the last line matters.
    fn repeats(&self, bytes: &[u8], spans_lines: bool) -> Option<usize> {
        let (mut length, mut last) = (0, 0);
        while self.precedes(&bytes[length..]) {
            let after = length + self.head.len();
            let Some(end) = memchr(b'\n', &bytes[after..]) else { break };
            (last, length) = (length, after + end + 1);
        }
        if length == 0 {
            return None;
        }
        let last_line = &bytes[last + self.head.len()..length - 1];
        if !spans_lines || ends_after_labels(last_line) {
            return Some(length);
        }
        let mut exact = 0;
        while exact < length {
            let after = exact + self.head.len();
            let mut position = self.position;
            let Some(end) = position.advance(&bytes[after..]) else { break };
            exact = after + end;
        }
        (exact > 0).then_some(exact)
    }

    /// Whether `bytes` begin with a sample with the same name.
    #[inline]
    fn precedes(&self, bytes: &[u8]) -> bool {
        let after = bytes.strip_prefix(&*self.head).and_then(|after| after.first());
        !self.head.is_empty()
            && after.is_some_and(|&byte| {
                if self.position == Position::Labels {
                    matches!(byte, b',' | b'}')
                } else {
                    byte == b'{' || is_blank(byte)
                }
            })
    }
}

impl Transform for Filter {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        if data.is_empty() {
            return Ok(());
        }
        let first = match std::mem::replace(&mut self.state, State::Head(Vec::new())) {
            State::Head(held) if held.is_empty() => None,
            State::Head(held) => match self.complete_head(held, &data, out) {
                None => return Ok(()),
                verdict => verdict,
            },
            State::Record { passes, position } => Some(Verdict { passes, from: 0, position }),
        };
        self.records(&data, first, out);
        Ok(())
    }

    /// Nothing to do: what can be judged has left already.
    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        if let State::Head(held) = &mut self.state {
            let held = std::mem::take(held);
            if !held.is_empty() && self.judge(&held, Then::End).is_some_and(|it| it.passes) {
                out.push(held.into());
            }
        }
        Ok(())
    }
}
