//! Gathers many small frames into few batches. Each batch costs one TLS write and few system calls.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Limit for the bytes in one batch. With the chunk header (7 bytes) and the chunk end (2 bytes), a
/// full batch is exactly ten full TLS records of 16 KiB.
pub const BATCH: usize = 10 * 16 * 1024 - 9;

/// Limit for the slices in one batch. hyper passes 64 slices to one vectored write and uses three
/// itself: the response head, the chunk header and the chunk end. Further frames are copied, so
/// that batches are always full. hyper would queue several batches that are not full.
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

/// Gathers frames into batches. Has at most [`BATCH`] bytes and one frame.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    batch: Batch,
    /// The end of the batch, copied from frames that are too small to be slices.
    copied: BytesMut,
    /// Number of bytes of small frames at the end of the batch.
    copied_small: usize,
    /// The same number the last time that a slice or the end of the batch followed.
    usual_copy: usize,
    /// The part of the last frame that did not fit into the batch.
    overflow: Bytes,
}

impl Coalescer {
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
    }

    fn length(&self) -> usize {
        self.batch.length + self.copied.len()
    }

    fn is_full(&self) -> bool {
        self.length() == BATCH
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
        let fits = self.overflow.len().min(BATCH - self.length());
        let frame = self.overflow.split_to(fits);
        let all_slices_used = self.batch.slices.len() + 3 > MAX_SLICES;
        if frame.len() < SHARED || all_slices_used {
            if self.copied.capacity() - self.copied.len() < frame.len() {
                let left = BATCH - self.length();
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
    fn a_block_for_many_small_frames_has_the_last_size_and_is_freed_with_its_batch() {
        let mut coalescer = Coalescer::default();
        for turn in 0..3 {
            while coalescer.length() + 1000 < BATCH {
                coalescer.push(vec![1; 1000].into());
                assert!(turn == 0 || coalescer.copied.capacity() <= BATCH);
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
            assert!(coalescer.copied.capacity() <= BATCH);
            if let Some(batch) = coalescer.full() {
                break batch;
            }
        };
        assert_eq!(batch.slices.len(), MAX_SLICES);
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
                    assert_eq!(batch.remaining(), BATCH);
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
    fn a_batch_and_its_chunk_framing_fill_ten_records() {
        let framed = format!("{BATCH:X}\r\n").len() + BATCH + "\r\n".len();
        assert_eq!(framed, 10 * 16_384);
    }
}
