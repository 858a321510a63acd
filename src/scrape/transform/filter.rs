//! Leaves metric families out of an exposition while it streams by: `metrics-keep` and
//! `metrics-drop`.
//!
//! The unit is a record: a line, or a sample with line feeds in its label values. What stays are
//! the exporter's own bytes: slices of the buffers that were read, and copies of short parts. A
//! record need not be in one piece: the name at its beginning decides, and the rest passes or is
//! dropped as it arrives. Only the beginning of a record waits for more, and at most [`MAX_HEAD`] bytes
//! of it.
//!
//! - `head`: the beginning of a record, up to the end of its name.
//! - `line_feeds`: where the lines end.
//! - `record`: the end of a record.
//! - `recent`: names of the current family and their verdict, so that most names are not judged again.
//! - `shape`: what these names have in common.
//! - `lanes`: bytes that are compared with one instruction.
//! - `negotiation`: what the exporter is asked for, and which of its answers can be filtered.
//! - `families`: which family a name belongs to, and whether it is passed on.

mod families;
mod head;
mod lanes;
mod line_feeds;
mod negotiation;
mod recent;
mod record;
mod shape;
#[cfg(test)]
mod tests;

use std::{
    mem,
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;

pub use self::negotiation::{ask_for_text, format_of};
use self::{
    families::{Belongs, Families},
    head::{Head, Then},
    line_feeds::LineFeeds,
    recent::{Recent, Run},
    record::{Position, Verdict, ends_after_labels, ends_record, may_be_held},
};
use super::{Out, Pace, Transform};
use crate::{
    common::{error::Abort, families::FamilyRules},
    scrape::exposition::ExpositionFormat,
};

/// Limit for the beginning of a record up to the end of its name, in bytes. A record whose name does
/// not end within the limit is dropped, because it cannot be judged. If all bytes up to the limit are
/// blanks, they pass, and what follows is judged by itself. If they are one `#` and otherwise blanks,
/// the record passes as a comment.
pub const MAX_HEAD: usize = 1024;

/// Length of almost all heads, in bytes.
const USUAL_HEAD: usize = 128;

/// Limit for the bytes of a record that are copied instead of read, in bytes. Copying is faster.
const MAX_UNREAD: usize = 256;

/// Kept bytes of at least this length are passed on without a copy. Shorter ones are copied together:
/// a slice for each of many short lines would need more memory than the lines.
const SHARED: usize = 1024;

/// Passes on the families that [`FamilyRules`] allow, with all their lines.
#[derive(Debug)]
pub struct Filter {
    /// Whether a label value may contain a line feed, as in the text format.
    spans_lines: bool,
    families: Families,
    recent: Recent,
    state: State,
    /// Bytes of the current record, see [`State`].
    held: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// At the beginning of a record. What has arrived of its head is held. Usually nothing.
    Head,
    /// Inside a record. The bytes after `position` were passed on or dropped. At most [`MAX_UNREAD`] of
    /// them are held as a copy, which is rarely needed to find the end of the record.
    Record { passes: bool, position: Position },
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

    /// Adds the last bytes of `data`, those in `range`, and moves all to the output.
    fn add_rest(mut self, data: Bytes, range: Range<usize>, out: &mut Out) {
        if range == (0..data.len()) && data.len() >= SHARED {
            // Cheaper than a slice.
            out.push(data);
        } else {
            self.add(&data, range, out);
            self.seal(out);
        }
    }

    /// Moves the copies to the output.
    fn seal(&mut self, out: &mut Out) {
        out.push(mem::take(&mut self.0).into());
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
            recent: Recent::default(),
            state: State::Head,
            held: Vec::new(),
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
                self.recent.forget();
                (false, 0, Position::Start)
            }
            Head::Nameless(position) => (true, 0, position),
            Head::Metadata { name, kind } => {
                self.recent.forget();
                (self.families.metadata(&name, kind), 0, Position::Outside)
            }
            Head::Sample { name, length, position } => {
                let passes = match self.families.sample(&name) {
                    Belongs::ToCurrent { passes } => passes,
                    Belongs::ToAnother { passes } => {
                        self.recent.forget();
                        passes
                    }
                };
                self.recent.remember(bytes, length, position, passes);
                (passes, length, position)
            }
        };
        Some(Verdict::new(passes, from, position, self.spans_lines))
    }

    /// Completes the held head of a record with the beginning of `data`. `None` if `data` is too short
    /// for that.
    fn complete_head(&mut self, data: &[u8], out: &mut Out) -> Option<Verdict> {
        let mut head = mem::take(&mut self.held);
        let before = head.len();
        let most = data.len().min(MAX_HEAD - before);
        // Few bytes are usually enough.
        let few = most.min(USUAL_HEAD);
        head.extend_from_slice(&data[..few]);
        let mut verdict = self.find_or_judge(&head);
        if verdict.is_none() && few < most {
            head.extend_from_slice(&data[few..most]);
            verdict = self.find_or_judge(&head);
        }
        if let Some(verdict) = &mut verdict {
            // A record that ends in the held bytes would have been judged before.
            if let Some(read) = head.get(verdict.from..before) {
                verdict.position.advance(read);
            }
            verdict.from = verdict.from.saturating_sub(before);
            if verdict.passes {
                out.push(Bytes::copy_from_slice(&head[..before]));
            }
            head.clear();
        }
        self.held = head;
        verdict
    }

    /// The verdict about the record that begins with `head`. `None` if its name is not complete.
    fn find_or_judge(&mut self, head: &[u8]) -> Option<Verdict> {
        self.recent.find(head, self.spans_lines).or_else(|| self.judge(head, Then::More))
    }

    /// Passes on the records of `data`, from the verdict about the first one.
    fn records(&mut self, data: Bytes, first: Option<Verdict>, out: &mut Out) {
        let (mut at, mut run) = (0, 0);
        let mut kept = Kept::default();
        let mut given = first;
        let mut feeds = LineFeeds::new(&data);
        while at < data.len() {
            let rest = &data[at..];
            let (passes, end) = if let Some(verdict) = given.take() {
                (verdict.passes, self.end(&data, at, verdict, &mut feeds))
            } else if let Some(Run { verdict, end }) =
                self.recent.find_run(&data, at, &mut feeds, self.spans_lines)
            {
                (verdict.passes, end.or_else(|| self.end(&data, at, verdict, &mut feeds)))
            } else if let Some(verdict) = self.judge(rest, Then::More) {
                (verdict.passes, self.end(&data, at, verdict, &mut feeds))
            } else {
                self.state = State::Head;
                self.held.extend_from_slice(rest);
                break;
            };
            let end = end.unwrap_or(data.len());
            if !passes {
                kept.add(&data, run..at, out);
                run = end;
            }
            at = end;
        }
        kept.add_rest(data, run..at, out);
    }

    /// The end of the record that begins at `at` and has been judged. If bytes of it are held, they come
    /// before `verdict.from`, and `verdict.position` is the position before them. `feeds` continues at
    /// the end. `None` if `bytes` end inside the record.
    fn end(
        &mut self,
        bytes: &[u8],
        at: usize,
        verdict: Verdict,
        feeds: &mut LineFeeds<'_>,
    ) -> Option<usize> {
        let Verdict { passes, from, mut position } = verdict;
        let from = at + from;
        if position == Position::Ended {
            return Some(from);
        }
        let feed = feeds.find(|feed| feed >= from);
        let line = &bytes[from..feed.unwrap_or(bytes.len())];
        let is_end = |_: &usize| {
            if self.held.is_empty() { ends_record(line, position) } else { ends_after_labels(line) }
        };
        if let Some(feed) = feed.filter(is_end) {
            self.held.clear();
            return Some(feed + 1);
        }
        if feed.is_none() && may_be_held(position) && self.held.len() + line.len() <= MAX_UNREAD {
            self.held.extend_from_slice(line);
            self.state = State::Record { passes, position };
            return None;
        }
        position.advance(&self.held);
        self.held.clear();
        let Some(length) = position.advance(&bytes[from..]) else {
            self.state = State::Record { passes, position };
            return None;
        };
        feeds.seek(from + length);
        Some(from + length)
    }
}

impl Transform for Filter {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        if data.is_empty() {
            return Ok(());
        }
        let first = match mem::replace(&mut self.state, State::Head) {
            State::Head if self.held.is_empty() => None,
            State::Head => match self.complete_head(&data, out) {
                None => return Ok(()),
                verdict => verdict,
            },
            State::Record { passes, position } => Some(Verdict { passes, from: 0, position }),
        };
        self.records(data, first, out);
        Ok(())
    }

    /// Nothing to do: what can be judged has left already.
    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn pace(&self) -> Pace {
        Pace::Fast
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        if matches!(self.state, State::Head) {
            let head = mem::take(&mut self.held);
            if !head.is_empty() && self.judge(&head, Then::End).is_some_and(|it| it.passes) {
                out.push(head.into());
            }
        }
        Ok(())
    }
}
