//! Frees a large buffer that only a few bytes keep allocated.

use bytes::Bytes;

/// From this length on, in bytes, a rest is not copied. The copy would cost more, and the limit of 0.3
/// MiB for each scrape holds without it.
pub const LARGE: usize = 16 * 1024;

/// Copies `rest` if it is small. The buffer that it was a part of can then be freed. Otherwise one
/// byte would keep a read buffer of up to 256 KiB allocated, for as long as the scraper does not
/// read.
pub fn detach_small(rest: &mut Bytes) {
    if rest.len() < LARGE {
        *rest = Bytes::copy_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;

    #[test]
    fn a_small_rest_frees_its_buffer_and_a_large_one_is_not_copied() {
        for (length, is_freed) in [(0, true), (1, true), (LARGE - 1, true), (LARGE, false)] {
            let buffer = Bytes::from(vec![7; 4 * LARGE]);
            let mut rest = buffer.clone();
            rest.advance(rest.len() - length);
            assert!(!buffer.is_unique());
            detach_small(&mut rest);
            assert_eq!(rest, vec![7; length]);
            assert_eq!(buffer.is_unique(), is_freed, "{length}");
        }
    }
}
