//! Bytes that are compared with one instruction.

use wide::u8x16;

/// Number of bytes in a lane.
pub(super) const LANE: usize = 16;

/// The first lane of `bytes`, which has at least [`LANE`] bytes.
#[inline]
pub(super) fn lane(bytes: &[u8]) -> u8x16 {
    let mut lane = [0; LANE];
    lane.copy_from_slice(&bytes[..LANE]);
    u8x16::new(lane)
}
