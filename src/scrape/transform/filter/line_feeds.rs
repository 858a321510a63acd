//! Finds the line feeds of a piece, 64 bytes at a time.
//!
//! A search for each line, as with `memchr`, makes search and comparison of the names together 1.6
//! times as slow: the processor must know where one line ends before it can search in the next.

use wide::u8x16;

/// Number of bytes that are searched at once: as many as a `u64` has bits.
const BLOCK: usize = 64;

/// Number of bytes that are compared with one instruction.
const LANE: usize = 16;

/// The positions of the line feeds in a piece, in ascending order.
#[derive(Debug)]
pub(super) struct LineFeeds<'a> {
    bytes: &'a [u8],
    /// Where the current block begins.
    block: usize,
    /// The line feeds of the current block that were not returned: bit N is the byte at `block + N`.
    found: u64,
}

impl<'a> LineFeeds<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, block: 0, found: search(bytes) }
    }

    /// Continues with the first line feed at `position` or after it.
    pub(super) fn seek(&mut self, position: usize) {
        self.block = position - position % BLOCK;
        let before = (1 << (position % BLOCK)) - 1;
        self.found = self.bytes.get(self.block..).map_or(0, search) & !before;
    }
}

impl Iterator for LineFeeds<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            self.found = search(self.bytes.get(self.block + BLOCK..)?);
            self.block += BLOCK;
        }
        let position = self.block + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(position)
    }
}

/// The line feeds of the first block of `bytes`, as bits.
#[inline]
fn search(bytes: &[u8]) -> u64 {
    if let Some(block) = bytes.first_chunk() {
        return search_block(block);
    }
    let mut block = [0; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    search_block(&block)
}

#[inline]
fn search_block(block: &[u8; BLOCK]) -> u64 {
    let line_feed = u8x16::splat(b'\n');
    let mut found = 0;
    for (at, lane) in block.chunks_exact(LANE).enumerate() {
        let mut bytes = [0; LANE];
        bytes.copy_from_slice(lane);
        let bits = u8x16::new(bytes).cmp_eq(line_feed).move_mask();
        found |= u64::from(bits as u16) << (at * LANE);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line feed at each position that `number` has a bit for, counted from `offset`.
    fn text(length: usize, offset: usize, number: u64) -> Vec<u8> {
        let is_feed =
            |at: usize| at >= offset && at - offset < 64 && number >> (at - offset) & 1 == 1;
        (0..length).map(|at| if is_feed(at) { b'\n' } else { b'a' }).collect()
    }

    #[test]
    fn all_line_feeds_are_found_in_order() {
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 128, 200] {
            for offset in [0, 1, 60, 64, 130] {
                for number in [0, 1, u64::MAX, 0x8000_0000_0000_0001, 0x0123_4567_89AB_CDEF] {
                    let text = text(length, offset, number);
                    let expected: Vec<usize> =
                        (0..length).filter(|&at| text[at] == b'\n').collect();
                    let mut feeds = LineFeeds::new(&text);
                    assert_eq!(feeds.by_ref().collect::<Vec<_>>(), expected, "{length} {offset}");
                    assert_eq!(feeds.next(), None);
                    for from in 0..=length {
                        feeds.seek(from);
                        let first = expected.iter().copied().find(|&at| at >= from);
                        assert_eq!(feeds.next(), first, "{length} {offset} from {from}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_bytes_are_not_line_feeds() {
        let text: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(LineFeeds::new(&text).collect::<Vec<_>>(), [usize::from(b'\n')]);
    }
}
