//! Transforms: links of the chain that change the bytes of a body.
//!
//! A transform sees the whole body in pieces. It cannot make a body that was cut look complete: only
//! [`Transformed`] ends the body, and only after its source has ended whole.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::source::Source;
use crate::{common::error::Abort, upstream::UpstreamHead};

/// Changes the bytes of a body while they pass.
pub trait Transform: fmt::Debug + Send {
    /// Takes the next bytes of the body, and adds to `out` what can already leave.
    ///
    /// # Errors
    ///
    /// The scrape must be aborted.
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort>;

    /// The exporter has sent no more so far. Adds to `out` everything that does not depend on later
    /// bytes, so that a slow exporter does not delay what is here. Called once for each pause.
    ///
    /// # Errors
    ///
    /// The scrape must be aborted.
    fn flush(&mut self, out: &mut Out) -> Result<(), Abort>;

    /// The body is complete. Adds the rest to `out`. Only this method may add what marks the end of
    /// a body, for example the trailer of a compressed format. Called at most once, and last.
    ///
    /// # Errors
    ///
    /// The scrape must be aborted.
    fn finish(&mut self, out: &mut Out) -> Result<(), Abort>;
}

/// The output of a transform.
#[derive(Debug, Default)]
pub struct Out(VecDeque<Bytes>);

impl Out {
    /// Adds bytes. Empty bytes are ignored.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push_back(bytes);
        }
    }
}

/// A chain of transforms, each with the output of the one before it.
#[derive(Debug, Default)]
pub struct Transforms(Vec<Box<dyn Transform>>);

/// What a transform is asked to do with its input.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    Flush,
    Finish,
}

impl Transforms {
    /// A chain in the order of the data flow.
    #[must_use]
    pub fn new(in_order: Vec<Box<dyn Transform>>) -> Self {
        Self(in_order)
    }

    /// Whether bodies pass unchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Passes `input` through all transforms. Each has received everything from the one before it
    /// when it is flushed or finished.
    fn run(&mut self, input: Option<Bytes>, then: Then, out: &mut Out) -> Result<(), Abort> {
        let mut pieces = Out(input.into_iter().collect());
        for transform in &mut self.0 {
            let mut next = Out::default();
            for piece in pieces.0.drain(..) {
                transform.push(piece, &mut next)?;
            }
            match then {
                Then::Nothing => {}
                Then::Flush => transform.flush(&mut next)?,
                Then::Finish => transform.finish(&mut next)?,
            }
            pieces = next;
        }
        out.0.append(&mut pieces.0);
        Ok(())
    }
}

/// A body that passes through transforms.
#[derive(Debug)]
pub struct Transformed<S> {
    source: S,
    transforms: Transforms,
    out: Out,
    /// All bytes of the source are in the output of the last transform.
    is_flushed: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source ended whole, and the transforms are finished.
    Finished,
    Failed(Abort),
}

impl<S: Source> Transformed<S> {
    /// Passes the body of `source` through `transforms`.
    #[must_use]
    pub fn new(source: S, transforms: Transforms) -> Self {
        let (out, state) = (Out::default(), State::Open);
        Self { source, transforms, out, is_flushed: true, state }
    }

    /// Reads the source once. `Pending` if the source has no bytes and all transforms are flushed.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        let (input, then) = match self.source.poll_chunk(cx) {
            Poll::Pending if self.is_flushed => return Poll::Pending,
            Poll::Pending => (None, Then::Flush),
            Poll::Ready(Some(data)) => (Some(data?), Then::Nothing),
            Poll::Ready(None) => (None, Then::Finish),
        };
        self.is_flushed = input.is_none();
        self.transforms.run(input, then, &mut self.out)?;
        if matches!(then, Then::Finish) {
            self.state = State::Finished;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Source> Source for Transformed<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            if let State::Failed(abort) = self.state {
                return Poll::Ready(Some(Err(abort)));
            }
            if let Some(bytes) = self.out.0.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.state == State::Finished {
                return Poll::Ready(None);
            }
            match self.poll_source(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(abort)) => self.state = State::Failed(abort),
            }
        }
    }

    fn is_end(&self) -> bool {
        self.state == State::Finished && self.out.0.is_empty()
    }

    fn release(&mut self) {
        self.source.release();
    }
}

/// Chooses the transforms for an answer by its head.
type Choose = dyn Fn(&UpstreamHead) -> Vec<Box<dyn Transform>> + Send + Sync;

/// Which transforms the answers of exporters pass through. By default none.
#[derive(Clone, Default)]
pub struct TransformRules(Option<Arc<Choose>>);

impl TransformRules {
    /// Lets `choose` select the transforms of each answer, in the order of the data flow.
    pub fn new(
        choose: impl Fn(&UpstreamHead) -> Vec<Box<dyn Transform>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(choose)))
    }

    /// The transforms for the body that follows `head`.
    pub(super) fn of(&self, head: &UpstreamHead) -> Transforms {
        Transforms(self.0.as_ref().map_or_else(Vec::new, |choose| choose(head)))
    }
}

impl fmt::Debug for TransformRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransformRules").field("is_empty", &self.0.is_none()).finish()
    }
}
