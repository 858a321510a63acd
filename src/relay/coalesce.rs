//! Small frames into few: one copy here saves a TLS record and a system call for each.

use bytes::{Buf, Bytes, BytesMut};

/// Most bytes in one batch. With the chunk header (7 bytes) and its end (2 bytes) a full batch is
/// exactly ten full TLS records of 16 KiB.
pub const BATCH: usize = 10 * 16 * 1024 - 9;

/// Frames from this size on are passed on as they are when nothing is waiting before them.
const LARGE: usize = 16 * 1024;

/// What to do with a frame that was pushed.
#[derive(Debug)]
pub(super) enum Next {
    /// It is large and nothing is before it: pass it on untouched.
    PassOn(Bytes),
    /// It is kept here; look at [`Coalescer::full`] before the next one.
    Kept,
}

/// Gathers small frames. Holds at most [`BATCH`] bytes and one frame.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    batch: BytesMut,
    /// What of the last frame did not fit into the batch.
    overflow: Bytes,
}

impl Coalescer {
    pub(super) fn push(&mut self, frame: Bytes) -> Next {
        debug_assert!(self.overflow.is_empty(), "a full batch must leave first");
        if self.batch.is_empty() && frame.len() >= LARGE {
            return Next::PassOn(frame);
        }
        self.overflow = frame;
        self.top_up();
        Next::Kept
    }

    /// A full batch, if there is one.
    pub(super) fn full(&mut self) -> Option<Bytes> {
        self.top_up();
        (self.batch.len() == BATCH).then(|| self.batch.split().freeze())
    }

    /// What is here, full or not.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        self.top_up();
        (!self.batch.is_empty()).then(|| self.batch.split().freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.overflow.is_empty()
    }

    /// Gives the buffer back while the scraper does not read.
    pub(super) fn release(&mut self) {
        if self.batch.is_empty() {
            self.batch = BytesMut::new();
        }
    }

    fn top_up(&mut self) {
        if self.overflow.is_empty() {
            return;
        }
        if self.batch.is_empty() {
            // Reclaims the last batch's memory if the connection is done with it.
            self.batch.reserve(BATCH);
        }
        let fits = self.overflow.len().min(BATCH - self.batch.len());
        self.batch.extend_from_slice(&self.overflow[..fits]);
        self.overflow.advance(fits);
        if self.overflow.is_empty() {
            // Lets go of the read buffer that the frame is a part of.
            self.overflow = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_passes_untouched_when_nothing_is_before_it() {
        let mut coalescer = Coalescer::default();
        let large = Bytes::from(vec![1; LARGE]);
        assert!(matches!(coalescer.push(large.clone()), Next::PassOn(same) if same == large));
        assert!(coalescer.is_empty());

        assert!(matches!(coalescer.push(Bytes::from_static(b"x")), Next::Kept));
        assert!(matches!(coalescer.push(large), Next::Kept));
        assert_eq!(coalescer.rest().map(|rest| rest.len()), Some(LARGE + 1));
    }

    #[test]
    fn small_frames_leave_as_full_batches_in_order() {
        let mut coalescer = Coalescer::default();
        let (mut pushed, mut popped) = (Vec::new(), Vec::new());
        let mut full = 0;
        for i in 0..800_u32 {
            let frame: Vec<u8> = (0..(i * 7) % 5000).map(|j| (i ^ j).to_le_bytes()[0]).collect();
            pushed.extend_from_slice(&frame);
            if let Next::PassOn(data) = coalescer.push(frame.into()) {
                popped.extend_from_slice(&data);
            }
            while let Some(batch) = coalescer.full() {
                assert_eq!(batch.len(), BATCH);
                full += 1;
                popped.extend_from_slice(&batch);
            }
        }
        popped.extend_from_slice(&coalescer.rest().unwrap_or_default());
        assert!(full >= 4, "only {full} full batches");
        assert!(pushed == popped, "bytes were lost, doubled or moved");
        assert!(coalescer.is_empty());
    }

    #[test]
    fn a_batch_and_its_chunk_framing_fill_ten_records() {
        let framed = format!("{BATCH:X}\r\n").len() + BATCH + "\r\n".len();
        assert_eq!(framed, 10 * 16_384);
    }
}
