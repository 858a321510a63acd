//! Reads a body as the relay does, and counts.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use scrapegate::{
    common::error::Abort,
    scrape::{LARGEST_BATCH, source::Source},
};

/// A body that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// Number of bytes of the body.
    pub(crate) bytes: u64,
    /// How often the task was polled.
    pub(crate) polls: u64,
    /// Why the message was not complete.
    pub(crate) end: Result<(), Abort>,
}

/// Reads the body to its end, in batches for a scraper that accepts everything at once.
pub(crate) async fn drain(source: &mut impl Source) -> Drained {
    let mut bytes = 0;
    let mut polls = 0;
    let mut batch = Batch::default();
    let end = poll_fn(|cx| {
        polls += 1;
        loop {
            match batch.poll(source, LARGEST_BATCH, cx) {
                Poll::Ready(Some(Ok(length))) => bytes += length as u64,
                Poll::Ready(Some(Err(abort))) => return Poll::Ready(Err(abort)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    Drained { bytes, polls, end }
}

/// The slices of one batch, which keep read buffers in use until the batch is full.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    slices: Vec<Bytes>,
    length: usize,
}

impl Batch {
    /// The length of the next chunk, which becomes a part of the batch. A full batch is freed
    /// first, as is every batch when the exporter has sent no more.
    pub(crate) fn poll(
        &mut self,
        source: &mut impl Source,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<usize, Abort>>> {
        if self.length >= limit - limit / 64 {
            self.clear();
        }
        source.read_up_to(limit - self.length);
        let next = source.poll_chunk(cx).map_ok(|chunk| {
            let length = chunk.len();
            self.length += length;
            self.slices.push(chunk);
            length
        });
        if next.is_pending() {
            self.clear();
        }
        next
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.length = 0;
    }
}
