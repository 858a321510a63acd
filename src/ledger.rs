//! What the scrapes of one exporter came to. Each is entered once, at its end, under one lock:
//! whoever reads finds numbers that add up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The outcome of a scrape whose last byte was handed to the scraper's socket.
pub const COMPLETE: &str = "complete";

/// The outcome of a scrape that was passed on whole, with a status other than 200.
pub const EXPORTER_STATUS: &str = "exporter_status";

/// The outcome of a scrape that was passed on whole, with a `Content-Type` that Prometheus refuses.
pub const NOT_METRICS: &str = "not_metrics";

/// Upper bounds of the durations, in seconds. The usual scrape is a few milliseconds long; the
/// default of `timeout` is 15 s, and few scrapers wait longer than a minute.
const DURATIONS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// Upper bounds of the phases, in seconds: coarse, because there are four of them for each exporter,
/// and enough to tell a phase that takes long now and then from one that always does.
const PHASES: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// After so many of its intervals without a scrape an exporter is overdue.
const OVERDUE: u32 = 3;

/// How many of the last scrapes are remembered.
pub const RECENT: usize = 40;

/// What a scrape waits for. The four together are the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The connection to the exporter: name look-up, connect, TLS handshake.
    Connect,
    /// The exporter's head and first bytes.
    FirstByte,
    /// The next bytes of the exporter's body.
    ReadWait,
    /// The scraper's socket, which takes no more.
    WriteWait,
}

impl Wait {
    /// All of them, in the order of a scrape.
    pub const ALL: [Self; 4] = [Self::Connect, Self::FirstByte, Self::ReadWait, Self::WriteWait];

    /// One constant word for counters.
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

/// How long each phase took; `None` for those that a scrape did not come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits([Option<Duration>; 4]);

impl Waits {
    /// Adds to a phase, which has been come to by that.
    pub fn add(&mut self, phase: Wait, waited: Duration) {
        *self.0[phase as usize].get_or_insert(Duration::ZERO) += waited;
    }

    /// How long a phase took.
    #[must_use]
    pub fn of(&self, phase: Wait) -> Option<Duration> {
        self.0[phase as usize]
    }
}

/// One scrape that is over.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How it ended, in one constant word.
    pub outcome: &'static str,
    /// Whether it ended after its head, and before its end.
    pub truncated: bool,
    /// Whether the exporter sent a `Content-Length` that counts nothing.
    pub length_ignored: bool,
    /// Whether it was complete, with a status and a `Content-Type` that Prometheus takes: its `up`.
    pub success: bool,
    /// Bytes of the body passed on.
    pub bytes: u64,
    /// From the arrival of its request to its end.
    pub took: Duration,
    /// Where that time went.
    pub phases: Waits,
    /// When it ended.
    pub ended: SystemTime,
}

/// How many values lie below each of some bounds, their number and their sum.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// An upper bound, and the number of values up to it and above the bound before. The last
    /// bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The number of all values.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Distribution {
    fn new(bounds: &[f64]) -> Self {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        Self { buckets: bounds.map(|bound| (bound, 0)).collect(), count: 0, sum: 0.0 }
    }

    fn add(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        if let Some((_, count)) = self.buckets.iter_mut().find(|(bound, _)| seconds <= *bound) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// The numbers of an exporter at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Scrapes that have begun and not ended.
    pub in_flight: u64,
    /// Scrapes that have ended, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Of these, those that ended after their head and before their end.
    pub truncated: BTreeMap<&'static str, u64>,
    /// Of these, those whose exporter sent a `Content-Length` that counts nothing.
    pub lengths_ignored: u64,
    /// Bytes of bodies passed on, by scrapes that have ended.
    pub bytes: u64,
    /// How long they took, from the arrival of the request to the end.
    pub durations: Distribution,
    /// What they waited for, in the order of [`Wait::ALL`].
    pub phases: [Distribution; 4],
    /// The one that ended last.
    pub last: Option<Entry>,
    /// When the last one began, or else the exporter was configured.
    awaited_since: Instant,
}

impl Figures {
    /// Whether three of its intervals have passed without a scrape, counted from the last request
    /// for it or, when there was none, from the first reading of its section.
    #[must_use]
    pub fn is_overdue(&self, interval: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.awaited_since) > interval * OVERDUE
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    figures: Figures,
    /// The last [`RECENT`] scrapes, oldest first.
    recent: VecDeque<Entry>,
}

impl Ledger {
    /// An exporter that is known from `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let figures = Figures {
            in_flight: 0,
            outcomes: BTreeMap::from([(COMPLETE, 0)]),
            truncated: BTreeMap::new(),
            lengths_ignored: 0,
            bytes: 0,
            durations: Distribution::new(&DURATIONS),
            phases: std::array::from_fn(|_| Distribution::new(&PHASES)),
            last: None,
            awaited_since: now,
        };
        Self(Mutex::new(Book { figures, recent: VecDeque::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A scrape whose request arrived at `arrival`. It has to end with [`Ledger::end`].
    pub fn begin(&self, arrival: Instant) {
        let Book { figures, .. } = &mut *self.lock();
        figures.in_flight += 1;
        figures.awaited_since = figures.awaited_since.max(arrival);
    }

    /// The scrape is over.
    pub fn end(&self, entry: Entry) {
        let Book { figures, recent } = &mut *self.lock();
        let Figures {
            in_flight,
            outcomes,
            truncated,
            lengths_ignored,
            bytes,
            durations,
            phases,
            last,
            awaited_since: _,
        } = figures;
        *in_flight = in_flight.saturating_sub(1);
        *outcomes.entry(entry.outcome).or_default() += 1;
        if entry.truncated {
            *truncated.entry(entry.outcome).or_default() += 1;
        }
        *lengths_ignored += u64::from(entry.length_ignored);
        *bytes = bytes.saturating_add(entry.bytes);
        durations.add(entry.took);
        for (wait, distribution) in Wait::ALL.into_iter().zip(phases) {
            if let Some(waited) = entry.phases.of(wait) {
                distribution.add(waited);
            }
        }
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(entry.clone());
        *last = Some(entry);
    }

    /// All numbers at this moment.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    /// The same, and with it the last [`RECENT`] scrapes, oldest first.
    #[must_use]
    pub fn overview(&self) -> (Figures, Vec<Entry>) {
        let book = self.lock();
        (book.figures.clone(), book.recent.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(outcome: &'static str) -> Entry {
        let mut phases = Waits::default();
        phases.add(Wait::Connect, SECOND / 1000);
        phases.add(Wait::ReadWait, SECOND);
        phases.add(Wait::ReadWait, SECOND);
        Entry {
            outcome,
            truncated: outcome != COMPLETE,
            length_ignored: outcome == COMPLETE,
            success: outcome == COMPLETE,
            bytes: 7,
            took: SECOND * 2,
            phases,
            ended: SystemTime::now(),
        }
    }

    #[test]
    fn every_number_of_an_entry_finds_its_place() {
        let now = Instant::now();
        let ledger = Ledger::new(now);
        for _ in 0..3 {
            ledger.begin(now);
        }
        ledger.end(entry(COMPLETE));
        ledger.end(entry("exporter_reset"));
        let figures = ledger.figures();
        assert_eq!(figures.in_flight, 1);
        assert_eq!(figures.outcomes, BTreeMap::from([(COMPLETE, 1), ("exporter_reset", 1)]));
        assert_eq!(figures.truncated, BTreeMap::from([("exporter_reset", 1)]));
        assert_eq!(figures.lengths_ignored, 1);
        assert_eq!(figures.bytes, 14);
        assert_eq!((figures.durations.count, figures.durations.sum), (2, 4.0));
        let filled = figures.durations.buckets.iter().filter(|(_, count)| *count > 0);
        assert_eq!(filled.collect::<Vec<_>>(), [&(2.5, 2)]);
        let counts = figures.phases.each_ref().map(|phase| (phase.count, phase.buckets[0].1));
        assert_eq!(counts, [(2, 2), (0, 0), (2, 0), (0, 0)]);
        assert_eq!(figures.last.map(|last| last.outcome), Some("exporter_reset"));
    }

    #[test]
    fn a_value_on_a_bound_lies_below_it() {
        let mut distribution = Distribution::new(&[1.0, 2.0]);
        for seconds in [1, 2, 3] {
            distribution.add(SECOND * seconds);
        }
        assert_eq!(distribution.buckets, [(1.0, 1), (2.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((distribution.count, distribution.sum), (3, 6.0));
    }

    #[test]
    fn an_exporter_is_overdue_after_three_intervals_without_a_request() {
        let start = Instant::now();
        let ledger = Ledger::new(start);
        let overdue_at = |seconds| ledger.figures().is_overdue(SECOND, start + SECOND * seconds);
        assert!(!overdue_at(3), "three intervals are granted, from its first reading on");
        assert!(overdue_at(4));
        ledger.begin(start + SECOND * 4);
        assert!(!overdue_at(7));
        assert!(overdue_at(8), "one that began and went on is no reason to wait for the next");
        ledger.end(entry(COMPLETE));
        assert!(overdue_at(8), "the end of a scrape is no new one");
    }
}
