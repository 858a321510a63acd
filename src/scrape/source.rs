//! A body as it arrives: the first link of the chain from the exporter to the scraper.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::{common::error::Abort, upstream::UpstreamBody};

/// A body that yields its bytes as they arrive.
///
/// A link of the chain reads the link before it through this trait, and is a `Source` for the link
/// after it. No link ends before its source has ended.
pub trait Source {
    /// The next bytes of the body, never empty. `None` after the end of a complete body.
    ///
    /// # Errors
    ///
    /// The body will never be complete. All later calls return the same error.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>>;

    /// Whether the body is complete, so that the next call of [`Source::poll_chunk`] returns `None`.
    fn is_end(&self) -> bool;

    /// Frees the memory that is reserved for the next bytes, while the scraper does not read.
    fn release(&mut self);
}

impl Source for UpstreamBody {
    #[inline]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        self.poll_data(cx)
    }

    fn is_end(&self) -> bool {
        self.is_end()
    }

    fn release(&mut self) {
        self.release();
    }
}
