//! The last samples of a family. Usually the next sample has the name of one of them, and needs no
//! other look at its name.

use memchr::memchr;

use super::{
    line_feeds::LineFeeds,
    record::{Position, Verdict, ends_after_labels, is_blank},
};

/// Number of names that are remembered. A family rarely has more: those of a histogram end with
/// `_bucket`, `_sum`, `_count` and `_created`.
const NAMES: usize = 4;

/// Samples with different beginnings, all judged since the current family began. A sample that was
/// split between two pieces can be in here twice.
#[derive(Debug, Default)]
pub(super) struct Recent {
    samples: [Sample; NAMES],
    /// Number of the `samples` that are valid. The others only keep their memory.
    known: usize,
    /// The place of the last one.
    last: usize,
}

/// A sample that has been judged.
#[derive(Debug)]
pub(super) struct Sample {
    /// The bytes up to the end of the name, and the byte that ends it. No line feed is among them.
    head: Vec<u8>,
    /// The position at the end of the name.
    position: Position,
    passes: bool,
}

impl Recent {
    /// Forgets all samples: the verdict about the same names may be another one from here on.
    pub(super) fn forget(&mut self) {
        self.known = 0;
    }

    /// Remembers the sample at the beginning of `bytes`, unless the same bytes can begin another
    /// record. The name ends after `length` bytes, at `position`.
    pub(super) fn remember(
        &mut self,
        bytes: &[u8],
        length: usize,
        position: Position,
        passes: bool,
    ) {
        let Some(head) = bytes.get(..=length).filter(|head| is_clear(head, position)) else {
            return;
        };
        self.last = if self.known < NAMES { self.known } else { (self.last + 1) % NAMES };
        self.known = NAMES.min(self.known + 1);
        let sample = &mut self.samples[self.last];
        sample.head.clear();
        sample.head.extend_from_slice(head);
        sample.position = position;
        sample.passes = passes;
    }

    /// The sample whose name `bytes` begin with, if it is known.
    ///
    /// The samples of a histogram or a summary follow each other in the same order for each series,
    /// so the search begins with the last sample and continues with the one that followed it before.
    #[inline]
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<&Sample> {
        let known = &self.samples[..self.known];
        let (before, from_last) = known.split_at_checked(self.last)?;
        let found =
            from_last.iter().chain(before).position(|sample| begin_with(bytes, &sample.head))?;
        self.last = (self.last + found) % self.known;
        Some(&self.samples[self.last])
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self { head: Vec::new(), position: Position::AfterName, passes: true }
    }
}

impl Sample {
    /// The position of the byte that ends the name.
    fn name_end(&self) -> usize {
        self.head.len().saturating_sub(1)
    }

    /// The verdict about each sample with this name.
    pub(super) fn verdict(&self, spans_lines: bool) -> Verdict {
        Verdict::new(self.passes, self.name_end(), self.position, spans_lines)
    }

    /// The end of all samples with this name that begin at `at`, where one begins. `feeds` continues
    /// there. `None` if the first one is not complete.
    ///
    /// Inside a label value, a line can look like such a sample. The line then belongs to the family
    /// all the same. So only the end of the last line matters.
    pub(super) fn end(
        &self,
        bytes: &[u8],
        at: usize,
        feeds: &mut LineFeeds<'_>,
        spans_lines: bool,
    ) -> Option<usize> {
        let (mut last, mut end) = (at, at);
        for feed in feeds.by_ref() {
            (last, end) = (end, feed + 1);
            if !begin_with(&bytes[end..], &self.head) {
                break;
            }
        }
        if end == at {
            return None;
        }
        if !spans_lines || ends_after_labels(&bytes[last + self.name_end()..end - 1]) {
            return Some(end);
        }
        let mut exact = at;
        while exact < end {
            let after = exact + self.name_end();
            let mut position = self.position;
            let Some(length) = position.advance(&bytes[after..]) else { break };
            exact = after + length;
        }
        feeds.seek(exact);
        (exact > at).then_some(exact)
    }
}

/// Whether all bytes that begin with `head` begin with a sample of the same name. The name ends before
/// the last byte of `head`.
fn is_clear(head: &[u8], position: Position) -> bool {
    let ends_name = head.last().is_some_and(|&byte| {
        if position == Position::Labels {
            matches!(byte, b',' | b'}')
        } else {
            byte == b'{' || is_blank(byte)
        }
    });
    ends_name && memchr(b'\n', head).is_none()
}

/// Whether `bytes` begin with `head`. Inlined for heads of usual length: a call of `memcmp` for each
/// line takes longer.
#[inline]
fn begin_with(bytes: &[u8], head: &[u8]) -> bool {
    const LANE: usize = 16;
    let Some(bytes) = bytes.get(..head.len()) else { return false };
    match (bytes.last_chunk::<LANE>(), head.last_chunk::<LANE>()) {
        // The names of a family differ at their ends.
        (Some(end), Some(end_of_head)) => {
            let mut lanes = bytes.chunks_exact(LANE).zip(head.chunks_exact(LANE));
            end == end_of_head && lanes.all(|(lane, lane_of_head)| lane == lane_of_head)
        }
        (None, _) | (_, None) => bytes == head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_lengths_are_compared_byte_by_byte() {
        let text: Vec<u8> = (0..70).collect();
        for length in 0..=60 {
            let head = &text[..length];
            assert!(begin_with(&text, head) && begin_with(head, head), "{length}");
            assert!(length == 0 || !begin_with(&head[1..], head), "{length}");
            for place in 0..length {
                let mut other = text.clone();
                other[place] ^= 1;
                assert!(!begin_with(&other, head), "{length} {place}");
            }
        }
    }

    fn remember(recent: &mut Recent, name: &str, passes: bool) {
        let line = format!("{name} 1\n");
        recent.remember(line.as_bytes(), name.len(), Position::AfterName, passes);
    }

    #[test]
    fn names_that_do_not_clearly_end_are_not_remembered() {
        for (line, length, position, is_remembered) in [
            ("a 1", 1, Position::AfterName, true),
            ("a{b=\"c\"} 1", 1, Position::AfterName, true),
            ("a", 1, Position::AfterName, false),
            ("a\n", 1, Position::AfterName, false),
            ("{\"a\"} 1", 4, Position::Labels, true),
            ("{\"a\",b=\"c\"} 1", 4, Position::Labels, true),
            // `{"a" ` can also begin a label: `{"a" ="b"}`.
            ("{\"a\" } 1", 4, Position::Labels, false),
            ("{\"a\nb\"} 1", 6, Position::Labels, false),
        ] {
            let mut recent = Recent::default();
            recent.remember(line.as_bytes(), length, position, true);
            assert_eq!(recent.find(line.as_bytes()).is_some(), is_remembered, "{line:?}");
        }
    }

    #[test]
    fn the_last_names_are_found_until_they_are_forgotten() {
        let mut recent = Recent::default();
        assert!(recent.find(b"a 1").is_none());
        for (at, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            remember(&mut recent, name, at % 2 == 0);
        }
        assert!(recent.find(b"a 1").is_none(), "there are only four places");
        for (name, passes) in [("e", true), ("b", false), ("d", false), ("c", true), ("c", true)] {
            let line = format!("{name} 1\n");
            assert_eq!(recent.find(line.as_bytes()).map(|sample| sample.passes), Some(passes));
        }
        for line in ["f 1", "b", "bb 1", ""] {
            assert!(recent.find(line.as_bytes()).is_none(), "{line:?}");
        }
        recent.forget();
        assert!(recent.find(b"c 1").is_none());
        remember(&mut recent, "f", true);
        assert!(recent.find(b"f 1").is_some() && recent.find(b"b 1").is_none());
    }
}
