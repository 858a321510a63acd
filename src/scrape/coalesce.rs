//! Gathers many small frames into few batches. Each batch costs one TLS write and few system calls.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use crate::common::detach::detach_small;

/// Limit for the data of a TLS record, in bytes (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;

/// The chunk header (7 bytes) and the chunk end (2 bytes) of a batch. With them, a batch at its limit
/// is a whole number of full TLS records.
const CHUNK: usize = 9;

/// The smallest limit for the bytes in a batch: for a socket that accepts little at once.
pub const SMALLEST_BATCH: usize = 2 * RECORD - CHUNK;

/// Limit for the bytes in the first batch.
pub const FIRST_BATCH: usize = 4 * RECORD - CHUNK;

/// The largest limit for the bytes in a batch: for a socket that accepts all of it at once. A scrape
/// needs little more memory than that.
pub const LARGEST_BATCH: usize = 16 * RECORD - CHUNK;

/// Limit for the bytes in a batch that has used all slices: more bytes have to be copied.
const COPIED_UP_TO: usize = 10 * RECORD - CHUNK;

/// Limit for the slices in one batch. hyper passes 64 slices to one vectored write and uses three
/// itself: the response head, the chunk header and the chunk end.
const MAX_SLICES: usize = 61;

/// Frames of at least this size, in bytes, are relayed without a copy. Copying a smaller frame
/// costs less than a slice of its own.
const SHARED: usize = 1024;

/// Size of a block for copied frames, in bytes. Several batches may share a block. A shared block
/// is freed with the last of its batches.
const SMALL_BLOCK: usize = 4 * 1024;

/// Bytes on their way to the scraper: slices of the bytes that were read from the exporter, and
/// copies of small frames.
#[derive(Debug, Default)]
pub struct Batch {
    slices: VecDeque<Bytes>,
    length: usize,
}

impl Batch {
    fn push(&mut self, slice: Bytes) {
        self.length += slice.len();
        self.slices.push_back(slice);
    }
}

impl From<Bytes> for Batch {
    fn from(bytes: Bytes) -> Self {
        Self { length: bytes.len(), slices: VecDeque::from([bytes]) }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (place, slice) in into.iter_mut().zip(&self.slices) {
            *place = IoSlice::new(slice);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.length, "advanced past the end of a batch");
        self.length -= count;
        while let Some(front) = self.slices.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.slices.pop_front();
        }
    }
}

/// Gathers frames into batches. Has at most [`LARGEST_BATCH`] bytes and one frame.
#[derive(Debug)]
pub(super) struct Coalescer {
    batch: Batch,
    /// Limit for the bytes in the batch.
    limit: usize,
    /// The end of the batch, copied from frames that are too small to be slices.
    copied: BytesMut,
    /// Number of bytes of small frames at the end of the batch.
    copied_small: usize,
    /// The same number the last time that a slice or the end of the batch followed.
    usual_copy: usize,
    /// The part of the last frame that did not fit into the batch.
    overflow: Bytes,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self {
            batch: Batch::default(),
            limit: FIRST_BATCH,
            copied: BytesMut::new(),
            copied_small: 0,
            usual_copy: 0,
            overflow: Bytes::new(),
        }
    }
}

impl Coalescer {
    /// Limits the next batches to what a socket accepts that has room for `room` bytes.
    pub(super) fn fit(&mut self, room: usize) {
        let records = (room / RECORD).clamp(2, 16);
        self.limit = records * RECORD - CHUNK;
    }

    /// How many bytes are missing until the batch is at its limit.
    #[inline(always)]
    pub(super) fn space(&self) -> usize {
        self.limit.saturating_sub(self.length())
    }

    /// Adds a frame. Before the next frame, call [`Coalescer::full`] until it returns `None`.
    pub(super) fn push(&mut self, frame: Bytes) {
        debug_assert!(self.overflow.is_empty(), "a full batch must leave first");
        self.overflow = frame;
        self.top_up();
    }

    /// Takes a full batch, if one is ready.
    pub(super) fn full(&mut self) -> Option<Batch> {
        self.top_up();
        self.is_full().then(|| self.take())
    }

    /// Takes all bytes as a batch, full or not. Returns `None` if there are no bytes.
    pub(super) fn rest(&mut self) -> Option<Batch> {
        self.top_up();
        (self.length() > 0).then(|| self.take())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length() == 0 && self.overflow.is_empty()
    }

    /// Frees memory that is not in use, while the scraper does not read.
    pub(super) fn release(&mut self) {
        if self.copied.is_empty() {
            self.copied = BytesMut::new();
        }
        detach_small(&mut self.overflow);
    }

    fn length(&self) -> usize {
        self.batch.length + self.copied.len()
    }

    /// A batch is full when the last part of its limit is begun. So a read of the size of the limit
    /// fills a batch, although the chunk headers are missing, and no read buffer stays in use for a
    /// few bytes.
    fn is_full(&self) -> bool {
        let limit = self.limit();
        self.length() >= limit - limit / 64
    }

    fn all_slices_used(&self) -> bool {
        self.batch.slices.len() + 3 > MAX_SLICES
    }

    /// The limit for the current batch.
    fn limit(&self) -> usize {
        if self.all_slices_used() { self.limit.min(COPIED_UP_TO) } else { self.limit }
    }

    fn take(&mut self) -> Batch {
        self.seal_copied();
        std::mem::take(&mut self.batch)
    }

    fn seal_copied(&mut self) {
        if self.copied.is_empty() {
            return;
        }
        self.usual_copy = std::mem::take(&mut self.copied_small);
        let sealed = if self.copied.capacity() > SMALL_BLOCK {
            // Not split: the remainder would keep the whole block allocated after the batch is
            // freed.
            std::mem::take(&mut self.copied)
        } else {
            self.copied.split()
        };
        self.batch.push(sealed.freeze());
    }

    fn top_up(&mut self) {
        if self.overflow.is_empty() || self.is_full() {
            return;
        }
        let fits = self.overflow.len().min(self.limit() - self.length());
        let frame = self.overflow.split_to(fits);
        let all_slices_used = self.all_slices_used();
        if frame.len() < SHARED || all_slices_used {
            if self.copied.capacity() - self.copied.len() < frame.len() {
                let left = self.limit() - self.length();
                // Reserve enough at once, so that the buffer does not grow by doubling.
                let room = if all_slices_used { left } else { self.usual_copy.max(SMALL_BLOCK) };
                self.copied.reserve(room.min(left));
            }
            self.copied.extend_from_slice(&frame);
            if !all_slices_used {
                self.copied_small += frame.len();
            }
        } else {
            self.seal_copied();
            self.batch.push(frame);
        }
        if self.overflow.is_empty() {
            // Releases the read buffer that contains the frame.
            self.overflow = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes, read as hyper reads them: by vectored slices, in steps.
    fn contents(mut batch: Batch) -> Vec<u8> {
        let mut all = Vec::new();
        let mut step = 1;
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = batch.chunks_vectored(&mut slices);
            let flat: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(flat.len(), batch.remaining(), "all slices fit into one vectored write");
            assert!(flat.starts_with(batch.chunk()) && !batch.chunk().is_empty());
            let taken = step.min(flat.len());
            all.extend_from_slice(&flat[..taken]);
            batch.advance(taken);
            step = step * 3 + 1;
        }
        all
    }

    #[test]
    fn a_large_frame_is_relayed_without_a_copy() {
        let mut coalescer = Coalescer::default();
        let large = Bytes::from(vec![1; SHARED]);
        coalescer.push(large.clone());
        assert!(!coalescer.is_empty());
        let batch = coalescer.rest().expect("a batch");
        assert_eq!(batch.chunk().as_ptr(), large.as_ptr());
        assert!(coalescer.is_empty() && coalescer.rest().is_none());
    }

    /// The batch of one frame of `length` bytes, and the address at which the batch begins.
    fn passed(coalescer: &mut Coalescer, length: usize) -> (Batch, usize) {
        coalescer.push(vec![1; length].into());
        let batch = coalescer.rest().expect("a batch");
        let place = batch.chunk().as_ptr().addr();
        (batch, place)
    }

    #[test]
    fn batches_of_small_frames_share_a_block_until_it_is_full_or_released() {
        let mut coalescer = Coalescer::default();
        let (_first, block) = passed(&mut coalescer, 1000);
        let mut alive = Vec::new();
        for (length, expected) in [(1000, 1000), (1000, 2000), (1000, 3000), (96, 4000)] {
            let (batch, place) = passed(&mut coalescer, length);
            assert_eq!(place - block, expected);
            alive.push(batch);
        }
        let (_next, block) = passed(&mut coalescer, 1);
        coalescer.release();
        let (_other, place) = passed(&mut coalescer, 1);
        assert_ne!(place, block + 1);
    }

    #[test]
    fn a_released_coalescer_holds_no_buffer_for_a_few_bytes_that_did_not_fit() {
        let mut coalescer = Coalescer::default();
        let frame = Bytes::from(vec![1; FIRST_BATCH + 10]);
        coalescer.push(frame.clone());
        assert_eq!(coalescer.full().map(|batch| batch.remaining()), Some(FIRST_BATCH));
        coalescer.release();
        assert!(frame.is_unique());
        assert_eq!(coalescer.rest().map(contents), Some(vec![1; 10]));
    }

    #[test]
    fn a_block_for_many_small_frames_has_the_last_size_and_is_freed_with_its_batch() {
        let mut coalescer = Coalescer::default();
        for turn in 0..3 {
            while coalescer.length() + 1000 < FIRST_BATCH - FIRST_BATCH / 64 {
                coalescer.push(vec![1; 1000].into());
                assert!(turn == 0 || coalescer.copied.capacity() <= FIRST_BATCH);
            }
            let batch = coalescer.rest().expect("a batch");
            assert_eq!((batch.slices.len(), coalescer.copied.capacity()), (1, 0));
        }
    }

    #[test]
    fn frames_beyond_the_last_slice_are_copied_into_one() {
        let mut coalescer = Coalescer::default();
        let batch = loop {
            coalescer.push(vec![1; 10].into());
            coalescer.push(vec![1; SHARED].into());
            assert!(coalescer.copied.capacity() <= FIRST_BATCH);
            if let Some(batch) = coalescer.full() {
                break batch;
            }
        };
        assert_eq!(batch.slices.len(), MAX_SLICES);
    }

    #[test]
    fn a_large_batch_ends_when_its_slices_are_used() {
        let mut coalescer = Coalescer::default();
        coalescer.fit(usize::MAX);
        let batch = loop {
            coalescer.push(vec![1; 4096].into());
            assert_eq!(coalescer.copied.len(), 0);
            if let Some(batch) = coalescer.full() {
                break batch;
            }
        };
        assert_eq!(batch.remaining(), batch.slices.len() * 4096);
    }

    #[test]
    fn a_slice_that_was_consumed_is_dropped() {
        let mut batch = Batch::from(Bytes::from_static(b"ab"));
        batch.push(Bytes::from_static(b"c"));
        batch.advance(2);
        assert_eq!(batch.chunk(), b"c");
        batch.advance(1);
        assert!(batch.slices.is_empty());
    }

    #[test]
    fn small_frames_leave_as_full_batches_in_order() {
        for largest in [10, 1500, 5000, 300_000] {
            let mut coalescer = Coalescer::default();
            coalescer.fit(10 * RECORD);
            let limit = coalescer.space();
            let (mut pushed, mut popped) = (Vec::new(), Vec::new());
            let mut batches = 0;
            let mut number = 0_u32;
            while pushed.len() < 1_000_000 {
                number += 1;
                let length = number.wrapping_mul(2_654_435_761) % largest + 1;
                let frame: Vec<u8> = (0..length).map(|at| (number ^ at).to_le_bytes()[0]).collect();
                pushed.extend_from_slice(&frame);
                coalescer.push(frame.into());
                while let Some(batch) = coalescer.full() {
                    assert!((limit - limit / 64..=limit).contains(&batch.remaining()));
                    assert!(batch.slices.len() <= MAX_SLICES, "{}", batch.slices.len());
                    batches += 1;
                    popped.extend(contents(batch));
                }
            }
            popped.extend(coalescer.rest().map(contents).unwrap_or_default());
            assert!(batches >= 4, "only {batches} full batches");
            assert!(pushed == popped, "bytes were lost, doubled or moved");
            assert!(coalescer.is_empty());
        }
    }

    #[test]
    fn a_batch_at_its_limit_and_its_chunk_framing_fill_whole_records() {
        for records in [5, 10, 16] {
            let mut coalescer = Coalescer::default();
            coalescer.fit(records * RECORD + 1);
            let limit = coalescer.space();
            let framed = format!("{limit:X}\r\n").len() + limit + "\r\n".len();
            assert_eq!(framed, records * RECORD);
        }
    }

    #[test]
    fn the_limit_follows_the_room_between_the_smallest_and_the_largest() {
        let mut coalescer = Coalescer::default();
        for (room, limit) in [
            (0, SMALLEST_BATCH),
            (3 * RECORD - 1, SMALLEST_BATCH),
            (3 * RECORD, 3 * RECORD - CHUNK),
            (usize::MAX, LARGEST_BATCH),
        ] {
            coalescer.fit(room);
            assert_eq!(coalescer.space(), limit);
            coalescer.push(vec![1; 2 * LARGEST_BATCH].into());
            assert_eq!(coalescer.full().map(|batch| batch.remaining()), Some(limit));
            coalescer.overflow = Bytes::new();
        }
    }

    #[test]
    fn a_batch_with_more_bytes_than_a_smaller_limit_leaves_whole() {
        let mut coalescer = Coalescer::default();
        coalescer.fit(LARGEST_BATCH);
        coalescer.push(vec![1; 10 * RECORD].into());
        assert!(coalescer.full().is_none());
        coalescer.fit(0);
        assert_eq!(coalescer.full().map(|batch| batch.remaining()), Some(10 * RECORD));
        assert!(coalescer.is_empty());
    }

    #[test]
    fn one_read_of_small_chunks_fills_a_batch() {
        // Each chunk of 4 KiB has 8 bytes of framing.
        for records in [2, 4, 8] {
            let mut coalescer = Coalescer::default();
            coalescer.fit(records * RECORD);
            let mut left = records * RECORD;
            while left > 8 {
                let data = 4096.min(left - 8);
                coalescer.push(vec![1; data].into());
                left -= data + 8;
            }
            assert!(coalescer.full().is_some() && coalescer.is_empty(), "{records}");
        }
    }
}
