//! The beginnings of samples of the current family. Usually the next sample begins with one of them,
//! and its name is not judged again.

use memchr::memchr;

use super::{
    line_feeds::LineFeeds,
    record::{Position, Verdict, ends_after_labels, is_blank},
    shape::{NAMES, Shape},
};

/// Samples with one verdict, all judged since the current family began.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The beginnings of the samples: the name and the byte that ends it. No line feed is among them.
    heads: [Vec<u8>; NAMES],
    /// Number of the `heads` that are valid. The others only keep their memory.
    known: usize,
    /// What the heads have in common. `None` without heads.
    shape: Option<Shape>,
    passes: bool,
}

/// Known samples that follow each other.
pub(super) struct Run {
    /// The verdict about the first sample. The others pass or are dropped like it. If the first record
    /// was read and is not complete, `from` and `position` are those at the end of the bytes.
    pub(super) verdict: Verdict,
    /// The end of the run. `None` if the first sample is not complete.
    pub(super) end: Option<usize>,
}

impl Recent {
    /// Forgets all samples: the verdict about the same names may be another one from here on.
    pub(super) fn forget(&mut self) {
        self.known = 0;
        self.shape = None;
    }

    /// Remembers the sample at the beginning of `bytes`, unless the same bytes can begin another
    /// record, or there are too many heads, or they differ too much. The name ends after `length` bytes,
    /// at `position`.
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
        if passes != self.passes {
            self.forget();
            self.passes = passes;
        }
        let Some(place) = self.heads.get_mut(self.known) else { return };
        place.clear();
        place.extend_from_slice(head);
        if let Some(shape) = Shape::new(&self.heads[..=self.known]) {
            self.known += 1;
            self.shape = Some(shape);
        }
    }

    /// The verdict about the sample that begins with `bytes`, if it is known.
    pub(super) fn find(&self, bytes: &[u8], spans_lines: bool) -> Option<Verdict> {
        let shape = self.shape.as_ref()?;
        self.begins(bytes).then(|| self.verdict(shape, spans_lines))
    }

    /// The run of known samples that begins at `at`, if the sample there is known. `feeds` continues
    /// at its end.
    ///
    /// A line inside a label value can look like a known sample. It passes or is dropped like the
    /// others, so only the end of the last line matters.
    pub(super) fn find_run(
        &self,
        bytes: &[u8],
        at: usize,
        feeds: &mut LineFeeds<'_>,
        spans_lines: bool,
    ) -> Option<Run> {
        let shape = self.shape.as_ref()?;
        let lines = match (shape.lanes(), self.known) {
            (1, 1) => self.find_lines::<1, 1>(shape, bytes, at, feeds),
            (2, 1) => self.find_lines::<2, 1>(shape, bytes, at, feeds),
            (3, 1) => self.find_lines::<3, 1>(shape, bytes, at, feeds),
            (4, 1) => self.find_lines::<4, 1>(shape, bytes, at, feeds),
            (1, _) => self.find_lines::<1, NAMES>(shape, bytes, at, feeds),
            (2, _) => self.find_lines::<2, NAMES>(shape, bytes, at, feeds),
            (3, _) => self.find_lines::<3, NAMES>(shape, bytes, at, feeds),
            (4, _) => self.find_lines::<4, NAMES>(shape, bytes, at, feeds),
            _ => Lines::find(bytes, at, feeds, |line| self.begins(line)),
        }?;
        let verdict = self.verdict(shape, spans_lines);
        if lines.end == at {
            return Some(Run { verdict, end: None });
        }
        if !spans_lines || ends_after_labels(&bytes[lines.last..lines.end]) {
            return Some(Run { verdict, end: Some(lines.end) });
        }
        Some(match shape.exact_end(bytes, at, lines.end) {
            Ok(end) => {
                feeds.seek(end);
                Run { verdict, end: Some(end) }
            }
            Err(position) => {
                Run { verdict: Verdict { from: bytes.len() - at, position, ..verdict }, end: None }
            }
        })
    }

    /// [`Lines::find`] for a prefix of `LANES` lanes and at most `TAILS` heads. Not inlined, so that
    /// its loop does not compete for registers.
    #[inline(never)]
    fn find_lines<const LANES: usize, const TAILS: usize>(
        &self,
        shape: &Shape,
        bytes: &[u8],
        at: usize,
        feeds: &mut LineFeeds<'_>,
    ) -> Option<Lines> {
        Lines::find(bytes, at, feeds, |line| {
            shape.begins::<LANES, TAILS>(line).unwrap_or_else(|| self.begins(line))
        })
    }

    /// Whether `line` begins with one of the heads. The fast comparison is [`Shape::begins`]. It cannot
    /// judge long prefixes and the last lines of a piece.
    #[cold]
    fn begins(&self, line: &[u8]) -> bool {
        self.heads[..self.known].iter().any(|head| line.starts_with(head))
    }

    fn verdict(&self, shape: &Shape, spans_lines: bool) -> Verdict {
        Verdict::new(self.passes, shape.prefix(), shape.position(), spans_lines)
    }
}

/// Lines that follow each other.
struct Lines {
    /// The beginning of the last complete one.
    last: usize,
    /// Its end.
    end: usize,
}

impl Lines {
    /// The complete lines from `at` on, up to the first one that `is_known` does not accept. `None` if
    /// that is the line at `at`. `feeds` continues at their end.
    #[inline]
    fn find(
        bytes: &[u8],
        at: usize,
        feeds: &mut LineFeeds<'_>,
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Option<Self> {
        if !is_known(&bytes[at..]) {
            return None;
        }
        let (mut last, mut end) = (at, at);
        feeds.find(|feed| {
            (last, end) = (end, feed + 1);
            !is_known(&bytes[end..])
        });
        Some(Self { last, end })
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn remember(recent: &mut Recent, name: &str, passes: bool) {
        let line = format!("{name} 1\n");
        recent.remember(line.as_bytes(), name.len(), Position::AfterName, passes);
    }

    /// Whether the first sample of `text` passes, if it is known.
    fn find(recent: &Recent, text: &str) -> Option<bool> {
        let verdict = recent.find(text.as_bytes(), true);
        let run = recent.find_run(text.as_bytes(), 0, &mut LineFeeds::new(text.as_bytes()), true);
        assert_eq!(run.is_some(), verdict.is_some(), "{text:?}");
        verdict.map(|verdict| verdict.passes)
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
            assert_eq!(find(&recent, line).is_some(), is_remembered, "{line:?}");
        }
    }

    #[test]
    fn the_names_of_a_histogram_are_found_until_they_are_forgotten() {
        let mut recent = Recent::default();
        assert_eq!(find(&recent, "a_sum 1"), None);
        for name in ["a_bucket", "a_sum", "a_count", "a_created"] {
            remember(&mut recent, name, false);
        }
        for known in ["a_bucket 1", "a_sum 1\n", "a_count 1", "a_created "] {
            assert_eq!(find(&recent, known), Some(false), "{known:?}");
        }
        for other in ["a 1", "a_bucket", "a_sums 1", "a_", "b_sum 1", "a_buckets 1", ""] {
            assert_eq!(find(&recent, other), None, "{other:?}");
        }
        recent.forget();
        assert_eq!(find(&recent, "a_sum 1"), None);
        remember(&mut recent, "a_sum", true);
        assert_eq!(find(&recent, "a_sum 1"), Some(true));
        assert_eq!(find(&recent, "a_count 1"), None);
    }

    #[test]
    fn a_sample_that_does_not_go_with_the_others_is_not_remembered() {
        for (why, others, last) in [
            ("too many", &["a_a", "a_b", "a_c", "a_d"][..], "a_e"),
            ("no common prefix", &["a"], "b"),
            ("a long end", &["a"], "a_long_name"),
            ("a long end before", &["a_long_name"], "a"),
        ] {
            let mut recent = Recent::default();
            for name in others.iter().chain([&last]) {
                remember(&mut recent, name, false);
            }
            assert_eq!(find(&recent, &format!("{last} 1")), None, "{why}");
            for other in others {
                assert_eq!(find(&recent, &format!("{other} 1")), Some(false), "{why}");
            }
        }
    }

    #[test]
    fn another_verdict_makes_it_forget_the_others() {
        let mut recent = Recent::default();
        remember(&mut recent, "a_sum", false);
        remember(&mut recent, "a_count", true);
        assert_eq!(find(&recent, "a_count 1"), Some(true));
        assert_eq!(find(&recent, "a_sum 1"), None);
    }

    #[test]
    fn a_run_ends_before_the_first_other_line() {
        let mut recent = Recent::default();
        remember(&mut recent, "a_sum", true);
        remember(&mut recent, "a_count", true);
        for (known, rest) in [
            ("", ""),
            ("", "a_sum 1"),
            ("a_sum 1\n", ""),
            ("a_sum 1\na_count 1\na_sum 1\n", "a_count"),
            ("a_sum 1\na_count 1\n", "b 1\na_sum 1\n"),
            ("a_sum {b=\"c\"} 1\na_count {b=\"c\"} 1\n", "# a\na_sum 1\n"),
            ("a_sum {b=\"\na_count 1\n\"} 1\n", "a_count 1\n"),
        ] {
            let text = format!("{known}{rest}");
            let mut feeds = LineFeeds::new(text.as_bytes());
            let run = recent.find_run(text.as_bytes(), 0, &mut feeds, true);
            let end = run.and_then(|run| run.end).unwrap_or_default();
            assert_eq!(&text[..end], known, "{text:?}");
            let next = rest.find('\n').map(|at| known.len() + at);
            if end > 0 {
                assert_eq!(feeds.find(|_| true), next, "{text:?}");
            }
        }
    }

    /// A second look at the record would take time for each of its lines.
    #[test]
    fn a_record_that_was_read_to_the_end_of_the_bytes_is_not_read_again() {
        let mut recent = Recent::default();
        remember(&mut recent, "a", true);
        let text = b"a {b=\"\na 1\na 1\n";
        let run = recent.find_run(text, 0, &mut LineFeeds::new(text), true).unwrap();
        let Verdict { from, position, .. } = run.verdict;
        assert_eq!((run.end, from, position), (None, text.len(), Position::Quoted));
    }

    /// The fast comparison is that of [`Recent::begins`], for each length of the prefix.
    #[test]
    fn each_byte_of_a_head_is_compared() {
        for length in 1..80 {
            let stem = "n".repeat(length);
            for tails in [&[""][..], &["_x", "_yy"]] {
                let mut recent = Recent::default();
                for tail in tails {
                    remember(&mut recent, &format!("{stem}{tail}"), true);
                }
                let line = format!("{stem}{} {}\n", tails[0], "1".repeat(80));
                assert_eq!(find(&recent, &line), Some(true), "{line:?}");
                for place in 0..=length + tails[0].len() {
                    let mut other = line.clone();
                    other.replace_range(place..=place, "#");
                    assert_eq!(find(&recent, &other), None, "{other:?}");
                }
            }
        }
    }
}
