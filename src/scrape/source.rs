//! What each link of the chain from the exporter to the scraper is for the next link.

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

    /// Frees the memory that is not needed while the scraper does not read: what is reserved for the
    /// next bytes, and a buffer with few bytes left.
    fn release(&mut self);

    /// Reads about `size` bytes at once, because the scraper takes no more.
    fn read_up_to(&mut self, size: usize);
}

impl Source for UpstreamBody {
    #[inline(always)]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        self.poll_data(cx)
    }

    fn is_end(&self) -> bool {
        self.is_end()
    }

    fn release(&mut self) {
        self.release();
    }

    #[inline(always)]
    fn read_up_to(&mut self, size: usize) {
        self.read_up_to(size);
    }
}

#[cfg(test)]
pub(super) mod scripted {
    use std::collections::VecDeque;

    use super::*;

    /// A source for the tests of the next links. It panics if it is polled after its last step.
    #[derive(Debug)]
    pub(in crate::scrape) struct Scripted {
        steps: VecDeque<Poll<Option<Result<Bytes, Abort>>>>,
        /// Whether the end is known with the last bytes, as with Content-Length.
        knows_end: bool,
    }

    impl Scripted {
        pub(in crate::scrape) fn new<const N: usize>(steps: [Step; N]) -> Self {
            let steps = steps.map(|step| match step {
                Step::Bytes(text) => Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes())))),
                Step::Pause => Poll::Pending,
                Step::End => Poll::Ready(None),
                Step::Fault(abort) => Poll::Ready(Some(Err(abort))),
            });
            Self { steps: steps.into(), knows_end: false }
        }

        pub(in crate::scrape) fn with_known_end(self) -> Self {
            Self { knows_end: true, ..self }
        }
    }

    /// The result of one poll.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::scrape) enum Step {
        Bytes(&'static str),
        Pause,
        End,
        Fault(Abort),
    }

    impl Source for Scripted {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
            self.steps.pop_front().expect("polled after its last step")
        }

        fn is_end(&self) -> bool {
            self.knows_end && matches!(self.steps.front(), None | Some(Poll::Ready(None)))
        }

        fn release(&mut self) {}

        fn read_up_to(&mut self, _: usize) {}
    }

    /// Polls a source once.
    pub(in crate::scrape) fn poll(source: &mut impl Source) -> Poll<Option<Result<Bytes, Abort>>> {
        source.poll_chunk(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
