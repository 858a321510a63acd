//! The duration of a trial, and the steady pace of its participants.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The duration of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    begun: Instant,
    length: Duration,
}

impl Span {
    /// Starts a trial of this length now.
    pub fn begin(length: Duration) -> Self {
        Self { begun: Instant::now(), length }
    }

    /// The time since the trial began.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Yields instants that are `period` apart until the trial is over. Each call sleeps until the
    /// next instant is due, and yields the time at which the thread woke up. A caller that needs
    /// longer than a period gets the missed instants at once, with their original times.
    pub fn beat(&self, period: Duration) -> impl Iterator<Item = Instant> + use<> {
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
