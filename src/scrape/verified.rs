//! When an answer is whole. The proxy and `probe` share this rule.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{integrity::TailCheck, source::Source};
use crate::{
    common::{
        error::Abort,
        exporter::{Exporter, ScrapeRules},
    },
    upstream::{Framing, UpstreamHead},
};

/// A body that is checked by the exporter's rules while it passes.
///
/// The body ends with `None` if and only if the exporter delivered a complete message that is not
/// larger than `max-body` and passes the `integrity` rule.
#[derive(Debug)]
pub struct Verified<S> {
    source: S,
    tail: TailCheck,
    received: u64,
    max_body: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The message is complete and passed the checks.
    Whole,
    /// The message will never be complete.
    Failed(Abort),
}

impl<S: Source> Verified<S> {
    /// Checks the body that follows `head` by the rules of `exporter`.
    #[must_use]
    pub fn new(source: S, head: &UpstreamHead, exporter: &Exporter) -> Self {
        let ScrapeRules { integrity, max_body, .. } = exporter.rules;
        let state = match head.framing {
            Framing::Bodiless => State::Whole,
            Framing::Chunked | Framing::Length(_) | Framing::UntilClose => State::Open,
        };
        Self { source, tail: TailCheck::new(integrity, head), received: 0, max_body, state }
    }

    /// The number of bytes received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    #[inline]
    fn check(&mut self, data: &Bytes) -> Result<(), Abort> {
        self.received += data.len() as u64;
        if self.max_body.is_some_and(|most| self.received > most) {
            return Err(Abort::TooLarge);
        }
        self.tail.update(data);
        // With Content-Length the scraper finds the end by counting. The last bytes must therefore
        // be checked before they are relayed.
        if self.source.is_end() { self.check_end() } else { Ok(()) }
    }

    fn check_end(&mut self) -> Result<(), Abort> {
        self.tail.verdict().map_err(Abort::Integrity)?;
        self.state = State::Whole;
        Ok(())
    }
}

impl<S: Source> Source for Verified<S> {
    #[inline]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        match self.state {
            State::Open => {}
            State::Whole => return Poll::Ready(None),
            State::Failed(abort) => return Poll::Ready(Some(Err(abort))),
        }
        let next = ready!(self.source.poll_chunk(cx));
        let checked = match &next {
            Some(Ok(data)) => self.check(data),
            Some(Err(abort)) => Err(*abort),
            None => self.check_end(),
        };
        match checked {
            Ok(()) => Poll::Ready(next),
            Err(abort) => {
                self.state = State::Failed(abort);
                Poll::Ready(Some(Err(abort)))
            }
        }
    }

    fn is_end(&self) -> bool {
        self.state == State::Whole
    }

    fn release(&mut self) {
        self.source.release();
    }
}
