//! The results of the participants of a trial.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::span::Span;

/// The results of one participant.
#[derive(Debug)]
pub struct Tally {
    /// The name of the participant, for the report.
    pub name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// From when a scrape was due to its last byte. A slow scrape delays the next ones, and their
    /// times include the delay.
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Tally {
    /// A tally without results.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::default() })
    }

    /// Counts a scrape that was due at `due` and has just ended.
    pub fn count(&self, span: &Span, due: Instant, ended: io::Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(()) => state.times.push(due.elapsed()),
            Err(error) => {
                let at = span.elapsed().as_secs_f64();
                state.failures.push(format!("after {at:.1} s: {error}"));
            }
        }
    }

    /// The sorted times of successful scrapes, and the errors of the others.
    pub fn outcome(&self) -> (Vec<Duration>, Vec<String>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = state.times.clone();
        times.sort_unstable();
        (times, state.failures.clone())
    }
}
