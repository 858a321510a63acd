//! Finds the line feeds of a piece, many at a time.
//!
//! A search for each line, as with `memchr`, takes longer: the processor must know where one line
//! ends before it can search in the next, and it cannot predict how many blocks a line has.

use wide::u8x16;

use super::lanes::{LANE, lane};

/// Number of bytes that are searched at once: as many as a `u64` has bits.
const BLOCK: usize = 64;

/// Two blocks.
const PAIR: usize = 2 * BLOCK;

/// Limit for the line feeds that are stored. A pair can have as many as it has bytes.
const STORED: usize = BLOCK + PAIR;

/// Limit for the bytes of one search.
const SEARCHED: usize = 32 * PAIR;

/// The positions of the line feeds in a piece, in ascending order.
#[derive(Debug)]
pub(super) struct LineFeeds<'a> {
    bytes: &'a [u8],
    /// The bytes from here to `to` were searched last.
    from: usize,
    to: usize,
    /// The line feeds that were found, counted from `from`. Places from `count` on are not valid.
    found: [u16; STORED],
    count: usize,
    /// The place of the next one.
    next: usize,
}

impl<'a> LineFeeds<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, from: 0, to: 0, found: [0; STORED], count: 0, next: 0 }
    }

    /// Continues with the first line feed at `position` or after it.
    pub(super) fn seek(&mut self, position: usize) {
        let found = &self.found[..self.count];
        if (self.from..self.to).contains(&position) {
            self.next = found.partition_point(|&feed| self.from + usize::from(feed) < position);
        } else {
            (self.from, self.to) = (position, position);
            (self.count, self.next) = (0, 0);
        }
    }

    /// The first line feed that `is_it` accepts. Continues after it.
    #[inline]
    pub(super) fn find(&mut self, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        loop {
            let from = self.from;
            let rest = &self.found[self.next..self.count];
            if let Some(place) = rest.iter().position(|&feed| is_it(from + usize::from(feed))) {
                self.next += place + 1;
                return Some(from + usize::from(rest[place]));
            }
            self.next = self.count;
            if self.to >= self.bytes.len() {
                return None;
            }
            self.search();
        }
    }

    /// Searches the bytes that follow.
    fn search(&mut self) {
        let rest = &self.bytes[self.to..];
        let searched = &rest[..rest.len().min(SEARCHED)];
        let mut store = Store { found: &mut self.found, count: 0 };
        let mut at = 0;
        while let Some(pair) = searched[at..].first_chunk() {
            store.add(pair, at);
            at += PAIR;
            if store.is_full() {
                break;
            }
        }
        let rest = &searched[at..];
        if !rest.is_empty() && !store.is_full() {
            // Shorter than a pair.
            let mut pair = [0; PAIR];
            pair[..rest.len()].copy_from_slice(rest);
            store.add(&pair, at);
            at = searched.len();
        }
        (self.count, self.next) = (store.count, 0);
        (self.from, self.to) = (self.to, self.to + at);
    }
}

/// The line feeds of one search.
struct Store<'a> {
    found: &'a mut [u16; STORED],
    count: usize,
}

impl Store<'_> {
    /// Whether there is no room for those of a pair.
    fn is_full(&self) -> bool {
        self.count > STORED - PAIR
    }

    /// Adds those of the pair at `at`. There must be room.
    #[inline(always)]
    fn add(&mut self, pair: &[u8; PAIR], at: usize) {
        let (first, second) = pair.split_at(BLOCK);
        self.add_block(feeds_of(first), at);
        self.add_block(feeds_of(second), at + BLOCK);
    }

    #[inline(always)]
    fn add_block(&mut self, block: u64, at: usize) {
        // Few blocks have more than two. A branch for each of the two would take longer, because the
        // processor cannot predict it.
        let first_rest = self.add_first(block, at);
        let mut rest = self.add_first(first_rest, at);
        while rest != 0 {
            rest = self.add_first(rest, at);
        }
    }

    /// Adds the first one of the block at `at`, if there is one. Returns the others.
    #[inline(always)]
    fn add_first(&mut self, block: u64, at: usize) -> u64 {
        // Less than `SEARCHED + BLOCK`.
        self.found[self.count] = (at + block.trailing_zeros() as usize) as u16;
        self.count += usize::from(block != 0);
        block & block.wrapping_sub(1)
    }
}

/// The line feeds of a block, as bits.
#[inline]
fn feeds_of(block: &[u8]) -> u64 {
    let line_feed = u8x16::splat(b'\n');
    let mut found = 0;
    for (at, bytes) in block.chunks_exact(LANE).enumerate() {
        let bits = lane(bytes).cmp_eq(line_feed).move_mask();
        found |= u64::from(bits as u16) << (at * LANE);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    /// A line feed at each position that `number` has a bit for, counted from `offset`.
    fn text(length: usize, offset: usize, number: u64) -> Vec<u8> {
        let is_feed =
            |at: usize| at >= offset && at - offset < 64 && number >> (at - offset) & 1 == 1;
        (0..length).map(|at| if is_feed(at) { b'\n' } else { b'a' }).collect()
    }

    fn all(feeds: &mut LineFeeds<'_>) -> Vec<usize> {
        iter::from_fn(|| feeds.find(|_| true)).collect()
    }

    #[test]
    fn all_line_feeds_are_found_in_order() {
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 128, 200, 4095, 4096, 4097, 8200] {
            for offset in [0, 1, 60, 64, 130, 4090] {
                for number in [0, 1, u64::MAX, 0x8000_0000_0000_0001, 0x0123_4567_89AB_CDEF] {
                    let text = text(length, offset, number);
                    let expected: Vec<usize> =
                        (0..length).filter(|&at| text[at] == b'\n').collect();
                    let mut feeds = LineFeeds::new(&text);
                    assert_eq!(all(&mut feeds), expected, "{length} {offset}");
                    assert_eq!(feeds.find(|_| true), None);
                    for from in (0..=length).step_by(length / 97 + 1) {
                        feeds.seek(from);
                        let first = expected.iter().copied().find(|&at| at >= from);
                        assert_eq!(feeds.find(|_| true), first, "{length} {offset} from {from}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_number_of_line_feeds_is_found() {
        for length in [60, 64, 65, 128, 192, 193, 300, 5000] {
            for others in [0, 1, 63, 64, 130] {
                let text = ["a".repeat(others), "\n".repeat(length)].concat();
                let expected: Vec<usize> = (others..others + length).collect();
                assert_eq!(
                    all(&mut LineFeeds::new(text.as_bytes())),
                    expected,
                    "{length} {others}"
                );
            }
        }
    }

    #[test]
    fn a_seek_can_follow_a_seek() {
        let text = text(300, 10, 1);
        let mut feeds = LineFeeds::new(&text);
        feeds.seek(200);
        feeds.seek(5);
        assert_eq!(feeds.find(|_| true), Some(10));
    }

    #[test]
    fn other_bytes_are_not_line_feeds() {
        let text: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(all(&mut LineFeeds::new(&text)), [usize::from(b'\n')]);
    }
}
