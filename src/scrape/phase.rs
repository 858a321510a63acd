//! The phases of a scrape: what it waits for, and how long.

use std::time::{Duration, Instant};

/// What a scrape waits for. The four phases together are the whole duration of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection to the exporter: name lookup, connect, TLS handshake.
    Connect,
    /// The head of the exporter's answer, and the first bytes of its body.
    FirstByte,
    /// Further bytes of the exporter's body.
    ReadWait,
    /// The scraper's socket, which accepts no more bytes.
    WriteWait,
}

impl Phase {
    /// All phases, in the order of a scrape.
    pub const ALL: [Self; 4] = [Self::Connect, Self::FirstByte, Self::ReadWait, Self::WriteWait];

    /// The value of the `phase` label of metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::ReadWait => "read_wait",
            Self::WriteWait => "write_wait",
        }
    }
}

/// The duration of each phase; `None` for a phase that the scrape did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseDurations([Option<Duration>; 4]);

impl PhaseDurations {
    /// Adds `waited` to a phase. The phase then counts as reached, even with a duration of zero.
    pub fn add(&mut self, phase: Phase, waited: Duration) {
        *self.0[phase as usize].get_or_insert(Duration::ZERO) += waited;
    }

    /// The time in which the scrape waited for the exporter.
    #[must_use]
    pub fn exporter(&self) -> Duration {
        let phases = [Phase::Connect, Phase::FirstByte, Phase::ReadWait];
        phases.into_iter().filter_map(|phase| self.of(phase)).sum()
    }

    /// The time in which the scrape waited for the scraper or the network.
    #[must_use]
    pub fn network(&self) -> Duration {
        self.of(Phase::WriteWait).unwrap_or_default()
    }

    /// The duration of a phase, or `None` if the scrape did not reach the phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }
}

/// Splits the duration of a scrape into its phases.
#[derive(Debug)]
pub struct PhaseTimer {
    pub(super) spent: PhaseDurations,
    /// The current phase; `None` before the proxy connects to the exporter.
    waiting: Option<Phase>,
    since: Instant,
}

impl PhaseTimer {
    pub(super) fn start(now: Instant) -> Self {
        Self { spent: PhaseDurations::default(), waiting: None, since: now }
    }

    /// Ends the current wait, and adds its duration to the current phase.
    pub fn resume(&mut self) {
        let now = Instant::now();
        if let Some(phase) = self.waiting {
            self.spent.add(phase, now.saturating_duration_since(self.since));
        }
        self.since = now;
    }

    /// Starts a wait in `phase`. The clock runs from the last [`PhaseTimer::resume`].
    pub fn wait_for(&mut self, phase: Phase) {
        self.waiting = Some(phase);
    }

    /// The current phase; `None` before the proxy connects to the exporter.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Phase> {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_waits_for_the_exporter_or_for_the_network() {
        let mut phases = PhaseDurations::default();
        for (phase, millis) in Phase::ALL.into_iter().zip([1, 20, 300, 4000]) {
            phases.add(phase, Duration::from_millis(millis));
        }
        assert_eq!(Phase::ALL[3], Phase::WriteWait);
        assert_eq!((phases.exporter().as_millis(), phases.network().as_millis()), (321, 4000));
    }
}
