//! What the beginnings of a family's samples have in common, for a fast comparison with many lines.

use std::array;

use wide::u8x16;

use super::{
    lanes::{LANE, lane},
    record::Position,
};

/// Limit for the number of heads. A family rarely has more: those of a histogram end with `_bucket`,
/// `_sum`, `_count` and `_created`.
pub(super) const NAMES: usize = 4;

/// Limit for the lanes of a prefix that are compared. Few names are longer, and
/// `Recent::begins` compares those.
const MAX_LANES: usize = 4;

/// Limit for the length of a tail, in bytes. Long enough for `created{`, which is the longest one of a
/// histogram. `_created{` of a summary with quantiles in OpenMetrics is longer, and `created",` of a name
/// in quotes.
const TAIL: usize = size_of::<u64>();

/// A common prefix, which usually is the name of the family, and short tails.
#[derive(Debug)]
pub(super) struct Shape {
    /// Length of the prefix in bytes.
    prefix: usize,
    /// The position of a record at the end of the prefix.
    position: Position,
    /// The first bytes of the prefix. Zeros follow it.
    lanes: [u8x16; MAX_LANES],
    /// The bits of the last lane that belong to the prefix.
    mask: u8x16,
    /// A tail for each head. Other places repeat the first one.
    tails: [Tail; NAMES],
}

/// The bytes of a head after the prefix.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// The bytes in the order of memory. Zeros follow them.
    bytes: u64,
    /// The bits of `bytes` that belong to the tail.
    mask: u64,
}

impl Shape {
    /// `None` if there are no heads, or if they have no common prefix, or if they differ in too many
    /// bytes.
    pub(super) fn new(heads: &[Vec<u8>]) -> Option<Self> {
        let (first, others) = heads.split_first()?;
        let prefix = others.iter().fold(first.len() - 1, |prefix, other| {
            let common = first[..prefix].iter().zip(other).take_while(|(a, b)| a == b);
            common.count()
        });
        let bytes = &first[..prefix];
        let mut position = Position::Start;
        match bytes.first()? {
            b'{' | b' ' | b'\t' => _ = position.advance(bytes),
            _ => position = Position::Name,
        }
        let mut tails = [Tail::new(&first[prefix..])?; NAMES];
        for (tail, head) in tails.iter_mut().zip(heads) {
            *tail = Tail::new(&head[prefix..])?;
        }
        let mut padded = [0; MAX_LANES * LANE];
        let compared = prefix.min(padded.len());
        padded[..compared].copy_from_slice(&bytes[..compared]);
        let mut mask = [0; LANE];
        mask[..=(prefix - 1) % LANE].fill(u8::MAX);
        Some(Self {
            prefix,
            position,
            lanes: array::from_fn(|at| lane(&padded[at * LANE..])),
            mask: u8x16::new(mask),
            tails,
        })
    }

    /// Length of the prefix in bytes.
    pub(super) fn prefix(&self) -> usize {
        self.prefix
    }

    /// Length of the prefix in lanes.
    pub(super) fn lanes(&self) -> usize {
        self.prefix.div_ceil(LANE)
    }

    /// The position of a record at the end of the prefix.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether `line` begins with one of the heads. `None` if `line` is too short to tell. The prefix
    /// has `LANES` lanes, and there are at most `TAILS` heads.
    #[inline]
    pub(super) fn begins<const LANES: usize, const TAILS: usize>(
        &self,
        line: &[u8],
    ) -> Option<bool> {
        let line = line.get(..LANES * LANE + TAIL)?;
        let mut differs = u8x16::ZERO;
        for (at, (bytes, expected)) in line.chunks_exact(LANE).zip(self.lanes).enumerate() {
            let here = lane(bytes) ^ expected;
            differs |= if at + 1 == LANES { here & self.mask } else { here };
        }
        let tail = u64::from_le_bytes(*line.get(self.prefix..)?.first_chunk()?);
        Some(differs == u8x16::ZERO && self.tails[..TAILS].iter().any(|it| it.begins(tail)))
    }

    /// The end of the last complete record that begins at `at` or later, and before `end`. All of these
    /// records begin with one of the heads.
    ///
    /// # Errors
    ///
    /// The record at `at` is not complete. The error is its position at the end of `bytes`.
    pub(super) fn exact_end(&self, bytes: &[u8], at: usize, end: usize) -> Result<usize, Position> {
        let mut exact = at;
        while exact < end {
            let mut position = self.position;
            match position.advance(&bytes[exact + self.prefix..]) {
                Some(length) => exact += self.prefix + length,
                None if exact == at => return Err(position),
                None => break,
            }
        }
        Ok(exact)
    }
}

impl Tail {
    /// `None` if these are too many bytes.
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut tail = [0; TAIL];
        tail.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let mask = u64::MAX.checked_shr(u64::BITS - 8 * bytes.len() as u32).unwrap_or_default();
        Some(Self { bytes: u64::from_le_bytes(tail), mask })
    }

    #[inline]
    fn begins(self, bytes: u64) -> bool {
        (bytes ^ self.bytes) & self.mask == 0
    }
}
