//! Transforms: links of the chain that change the bytes of a body.
//!
//! A transform sees the whole body in pieces. It cannot make a body that was cut look complete: only
//! [`Transformed`] ends the body, and only after its source has ended whole.

pub mod compression;
pub mod filter;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

pub use self::compression::permits::CompressionPermits;
use super::source::Source;
use crate::{
    common::{
        detach::{LARGE, detach_small},
        error::Abort,
    },
    upstream::UpstreamHead,
};

/// Changes the bytes of a body while they pass.
pub trait Transform: fmt::Debug + Send {
    /// Takes the next bytes of the body, and adds to `out` what can already leave.
    ///
    /// # Errors
    ///
    /// The scrape must be aborted.
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort>;

    /// The exporter has sent no more so far. Adds to `out` everything that does not depend on later
    /// bytes, so that a slow exporter does not delay what is here. Called at most once for each
    /// pause, and not before the oldest bytes that were not flushed have waited for
    /// [`Transform::hold`].
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

    /// How long bytes may wait for more before a pause of the exporter flushes them. For transforms
    /// whose output grows with each flush. Zero by default.
    fn hold(&self) -> Duration {
        Duration::ZERO
    }

    /// How fast the transform is. Slow by default.
    fn pace(&self) -> Pace {
        Pace::Slow
    }
}

/// How fast a transform is, which decides how many bytes it gets before other tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// About as fast as an encoder: 256 KiB in less than a millisecond.
    Slow,
    /// Ten times as fast, and with an output that mostly shares the memory of the input.
    Fast,
}

impl Pace {
    /// Limit for one read of the source, in bytes. A slow transform may hold a piece and all that it
    /// makes of it, so it gets small pieces. For a filter that drops half, pieces of 256 KiB cost 4 %
    /// more CPU time than pieces of 128 KiB (`benches/README.md`, "One run over a thin link").
    fn largest_read(self) -> usize {
        match self {
            Self::Slow => 64 * 1024,
            Self::Fast => 128 * 1024,
        }
    }

    /// Number of bytes after which other tasks run, so that the output is sent and other connections
    /// get their turn. A turn takes less than a millisecond.
    #[must_use]
    pub fn turn(self) -> usize {
        match self {
            Self::Slow => 256 * 1024,
            // A turn ends with a batch that is not full, so longer turns waste less.
            Self::Fast => 2 * 1024 * 1024,
        }
    }

    /// How much of a turn a piece of this length uses up, in bytes.
    #[must_use]
    pub fn cost(self, length: usize) -> usize {
        length.max(self.turn() / MOST_PIECES)
    }
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

    /// Does for all bytes together what [`detach_small`] does for one piece.
    fn detach_small(&mut self) {
        let mut rest = match self.0.len() {
            0 => return,
            _ if self.0.iter().map(Bytes::len).sum::<usize>() >= LARGE => return,
            1 => self.0.pop_front().unwrap_or_default(),
            _ => Bytes::from(self.0.make_contiguous().concat()),
        };
        detach_small(&mut rest);
        self.0 = VecDeque::from([rest]);
    }
}

impl IntoIterator for Out {
    type Item = Bytes;
    type IntoIter = std::collections::vec_deque::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A chain of transforms, each with the output of the one before it.
#[derive(Debug, Default)]
pub struct Transforms(Vec<Box<dyn Transform>>);

/// What a transform is asked to do after its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing: it may keep bytes, to change them together with later ones.
    Nothing,
    /// See [`Transform::flush`].
    Flush,
    /// See [`Transform::finish`].
    Finish,
}

impl Transforms {
    /// A chain in the order of the data flow.
    #[must_use]
    pub fn new(in_order: Vec<Box<dyn Transform>>) -> Self {
        Self(in_order)
    }

    /// The same chain after another transform, if there is one.
    pub(super) fn after(mut self, first: Option<Box<dyn Transform>>) -> Self {
        if let Some(first) = first {
            self.0.insert(0, first);
        }
        self
    }

    /// Whether bodies pass unchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a transform at the end of the data flow.
    pub(super) fn push(&mut self, transform: Box<dyn Transform>) {
        self.0.push(transform);
    }

    /// The longest [`Transform::hold`].
    fn hold(&self) -> Duration {
        self.0.iter().map(|transform| transform.hold()).max().unwrap_or_default()
    }

    /// The pace of the slowest.
    fn pace(&self) -> Pace {
        self.0.iter().map(|transform| transform.pace()).min().unwrap_or(Pace::Fast)
    }

    /// Passes `input` through all transforms. Each has received everything from the one before it
    /// when it is flushed or finished.
    fn run(&mut self, input: Option<Bytes>, then: Then, out: &mut Out) -> Result<(), Abort> {
        // The usual chain, without a queue between its transforms.
        if let [only] = &mut self.0[..] {
            return step(&mut **only, input, then, out);
        }
        let mut pieces = Out(input.into_iter().collect());
        for transform in &mut self.0 {
            let mut next = Out::default();
            for piece in pieces.0.drain(..) {
                transform.push(piece, &mut next)?;
            }
            step(&mut **transform, None, then, &mut next)?;
            pieces = next;
        }
        out.0.append(&mut pieces.0);
        Ok(())
    }
}

/// Passes `input` to a transform, and asks it to do `then`.
fn step(
    transform: &mut dyn Transform,
    input: Option<Bytes>,
    then: Then,
    out: &mut Out,
) -> Result<(), Abort> {
    if let Some(data) = input {
        transform.push(data, out)?;
    }
    match then {
        Then::Nothing => Ok(()),
        Then::Flush => transform.flush(out),
        Then::Finish => transform.finish(out),
    }
}

/// Limit for the number of pieces of the source in one turn. Many short chunks take longer than as many
/// bytes in long ones.
const MOST_PIECES: usize = 1024;

/// A body that passes through transforms.
#[derive(Debug)]
pub struct Transformed<S> {
    source: S,
    transforms: Transforms,
    out: Out,
    /// The time since which transforms may have bytes that were not flushed. `None` if all bytes of
    /// the source are in the output of the last transform.
    unflushed_since: Option<Instant>,
    hold: Duration,
    pace: Pace,
    /// Ends the wait before a flush. Not moved at each flush: it checks `unflushed_since` when it
    /// fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// Number of bytes of the source, and of the output that was passed on. Both begin with 1.
    taken: u64,
    passed: u64,
    /// Number of bytes since the source was last pending. Short pieces count for more.
    turn: usize,
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
        Self {
            source,
            hold: transforms.hold(),
            pace: transforms.pace(),
            transforms,
            out: Out::default(),
            unflushed_since: None,
            timer: None,
            taken: 1,
            passed: 1,
            turn: 0,
            state: State::Open,
        }
    }

    /// The body before the transforms.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// How many bytes of the source probably become one byte of the output. Rounded to a whole number,
    /// so that it is exactly 1 if nearly all bytes pass.
    fn shrinks_by(&self) -> u64 {
        ((self.taken + self.passed / 2) / self.passed).max(1)
    }

    /// Reads the source once. `Pending` if the source has no bytes and nothing is to be flushed yet.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        if self.turn >= self.pace.turn() {
            self.turn = 0;
            // The runtime looks at its timers before it polls this task again. If the task woke
            // itself, the runtime would do so only after 61 turns, and a deadline would pass unseen.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        let (input, then) = match self.source.poll_chunk(cx) {
            Poll::Pending => {
                self.turn = 0;
                ready!(self.poll_flush_time(cx));
                (None, Then::Flush)
            }
            Poll::Ready(Some(data)) => (Some(data?), Then::Nothing),
            Poll::Ready(None) => (None, Then::Finish),
        };
        match &input {
            Some(data) => {
                self.taken += data.len() as u64;
                self.turn += self.pace.cost(data.len());
                self.unflushed_since.get_or_insert_with(Instant::now);
            }
            None => self.unflushed_since = None,
        }
        self.transforms.run(input, then, &mut self.out)?;
        if then == Then::Finish {
            self.state = State::Finished;
            // Frees encoders and permits, although a slow scraper may need long for the rest.
            self.transforms = Transforms::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the transforms are to be flushed, while the source is pending. Waits forever if
    /// nothing is to be flushed.
    fn poll_flush_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.unflushed_since else {
            return Poll::Pending;
        };
        let until = since + self.hold;
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            if timer.deadline() > until || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: Source> Source for Transformed<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            if let State::Failed(abort) = self.state {
                return Poll::Ready(Some(Err(abort)));
            }
            if let Some(bytes) = self.out.0.pop_front() {
                self.passed += bytes.len() as u64;
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
        self.out.detach_small();
    }

    /// `size` is the number of bytes of the output. Reads as many bytes as will probably become that.
    fn read_up_to(&mut self, size: usize) {
        let most = self.pace.largest_read();
        let input = usize::try_from(self.shrinks_by()).map_or(most, |by| size.saturating_mul(by));
        self.source.read_up_to(input.min(most));
    }
}

/// Chooses transforms for an answer by its head.
type Choose = dyn Fn(&UpstreamHead) -> Vec<Box<dyn Transform>> + Send + Sync;

/// What the transforms of all scrapes share.
#[derive(Clone, Default)]
pub struct TransformRules {
    /// The permits of `max-compressions`.
    pub compressions: CompressionPermits,
    /// The transforms of tests.
    added: Option<Arc<Choose>>,
}

impl TransformRules {
    /// Adds transforms to those that the configuration selects, before the compression. For tests.
    pub fn new(
        choose: impl Fn(&UpstreamHead) -> Vec<Box<dyn Transform>> + Send + Sync + 'static,
    ) -> Self {
        Self { added: Some(Arc::new(choose)), ..Self::default() }
    }

    /// The transforms that the configuration selects, with these permits to compress.
    #[must_use]
    pub fn with_permits(compressions: CompressionPermits) -> Self {
        Self { compressions, added: None }
    }

    /// The added transforms for the body that follows `head`.
    pub(super) fn added(&self, head: &UpstreamHead) -> Transforms {
        Transforms(self.added.as_ref().map_or_else(Vec::new, |choose| choose(head)))
    }
}

impl fmt::Debug for TransformRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransformRules")
            .field("compressions", &self.compressions)
            .field("added", &self.added.is_some())
            .finish()
    }
}
