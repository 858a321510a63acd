//! How long a trial lasts, and the beat of those who take part.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The time of a trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    begun: Instant,
    length: Duration,
}

impl Span {
    pub(crate) fn begin(length: Duration) -> Self {
        Self { begun: Instant::now(), length }
    }

    /// How long ago it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Instants `period` apart until the trial is over, each once it has come: that is when the
    /// thread wakes up. Whoever took longer than the period gets the instants that it missed at
    /// once, as they were.
    pub(crate) fn beat(&self, period: Duration) -> impl Iterator<Item = Instant> + use<> {
        let end = self.begun + self.length;
        let mut next = Instant::now();
        std::iter::from_fn(move || {
            let due = next;
            next += period;
            let left = due.saturating_duration_since(Instant::now());
            let now = if left.is_zero() {
                due
            } else {
                thread::sleep(left);
                Instant::now()
            };
            (Instant::now() < end).then_some(now)
        })
    }
}
