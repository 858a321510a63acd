//! The results of the scrapes of one exporter. Each scrape is entered once, when it ends, under one
//! lock. All numbers that are read together are therefore consistent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{
    encoding::Encoding,
    phase::{Phase, PhaseDurations},
};
use crate::common::error::Abort;

/// The outcome of a scrape whose last byte was handed to the scraper's socket, and whose answer
/// Prometheus accepts.
pub const COMPLETE: &str = "complete";

/// The outcome of a scrape that was relayed completely, with a status other than 200.
pub const EXPORTER_STATUS: &str = "exporter_status";

/// The outcome of a scrape that was relayed completely, with a `Content-Type` that Prometheus
/// refuses.
pub const NOT_METRICS: &str = "not_metrics";

/// Bucket bounds of scrape durations, in seconds. A usual scrape takes a few milliseconds, the
/// default of `timeout` is 15 s, and few scrapers wait longer than a minute.
const DURATIONS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// Bucket bounds of the phases of a scrape, in seconds. They are coarse, because each exporter has
/// four phases. They suffice to distinguish a phase that is sometimes slow from one that is always
/// slow.
const PHASES: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// An exporter is overdue after this many of its intervals without a scrape.
const OVERDUE: u32 = 3;

/// How many of the most recent scrapes are kept for the status page.
pub const RECENT: usize = 40;

/// One finished scrape.
#[derive(Clone, Debug)]
pub struct ScrapeRecord {
    /// How the scrape ended: the value of the `outcome` label of metrics.
    pub outcome: &'static str,
    /// Whether the scrape ended after the response head and before the end of the body.
    pub truncated: bool,
    /// Whether the exporter sent a `Content-Length` that was ignored, because `Transfer-Encoding`
    /// overrides it (RFC 9112 §6.3).
    pub length_ignored: bool,
    /// Metric families that `metrics-drop` and `metrics-keep` left out.
    pub families_dropped: u64,
    /// Whether the answer was complete and had a status and a `Content-Type` that Prometheus
    /// accepts. Corresponds to the `up` of Prometheus.
    pub success: bool,
    /// Bytes of the body that were sent to the scraper.
    pub bytes: u64,
    /// Bytes of the body that the exporter sent.
    pub received: u64,
    /// The encoding of the response; `None` if the scrape ended before the response head.
    pub encoding: Option<Encoding>,
    /// The duration of the scrape, from the arrival of the request to its end.
    pub took: Duration,
    /// The duration by phase.
    pub phases: PhaseDurations,
    /// When the scrape ended.
    pub ended: SystemTime,
}

/// A histogram of durations: the number of values in each bucket, their total number and their sum.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// For each bucket the upper bound, which is inclusive, and the number of values in this bucket
    /// alone. Bounds are in seconds, and the last one is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The number of values.
    pub count: u64,
    /// The sum of all values, in seconds.
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

/// All numbers of an exporter at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Scrapes that have begun and not ended.
    pub in_flight: u64,
    /// Finished scrapes, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Finished scrapes that ended after the response head and before the end of the body, by
    /// outcome.
    pub truncated: BTreeMap<&'static str, u64>,
    /// Finished scrapes whose exporter sent a `Content-Length` that was ignored.
    pub lengths_ignored: u64,
    /// Metric families that were left out of the answers of finished scrapes.
    pub families_dropped: u64,
    /// Bytes of bodies that finished scrapes sent to scrapers.
    pub bytes: u64,
    /// Bytes of bodies that finished scrapes received from the exporter.
    pub received: u64,
    /// Finished scrapes that sent a response head, by encoding.
    pub encodings: BTreeMap<Encoding, u64>,
    /// Durations of finished scrapes, from the arrival of the request to the end.
    pub durations: Distribution,
    /// Durations of finished scrapes by phase, in the order of [`Phase::ALL`].
    pub phases: [Distribution; 4],
    /// The scrape that ended last.
    pub last: Option<ScrapeRecord>,
    /// When the last scrape began, or when the exporter was configured if there was no scrape yet.
    awaited_since: Instant,
}

impl Snapshot {
    /// Whether three intervals have passed without a scrape. The time counts from the last request,
    /// or from the first reading of the exporter's section if there was no request yet.
    #[must_use]
    pub fn is_overdue(&self, interval: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.awaited_since) > interval * OVERDUE
    }
}

/// The numbers and the most recent scrapes of one exporter. See the [module](self).
#[derive(Debug)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    snapshot: Snapshot,
    /// The last [`RECENT`] scrapes, oldest first.
    recent: VecDeque<ScrapeRecord>,
}

impl Ledger {
    /// Starts the ledger of an exporter that is configured at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let snapshot = Snapshot {
            in_flight: 0,
            outcomes: BTreeMap::from([(COMPLETE, 0)]),
            // Every cause exists from the start, so that the first truncation is visible as an
            // increase.
            truncated: Abort::infos().map(|cause| (cause.label, 0)).collect(),
            lengths_ignored: 0,
            families_dropped: 0,
            bytes: 0,
            received: 0,
            encodings: BTreeMap::from([(Encoding::Identity, 0)]),
            durations: Distribution::new(&DURATIONS),
            phases: std::array::from_fn(|_| Distribution::new(&PHASES)),
            last: None,
            awaited_since: now,
        };
        // Not enlarged later: a block that was allocated during a burst would keep the heap below it
        // allocated.
        Self(Mutex::new(Book { snapshot, recent: VecDeque::with_capacity(RECENT) }))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a scrape whose request arrived at `arrival`. Every call needs one call of
    /// [`Ledger::end`].
    pub fn begin(&self, arrival: Instant) {
        let Book { snapshot, .. } = &mut *self.lock();
        snapshot.in_flight += 1;
        snapshot.awaited_since = snapshot.awaited_since.max(arrival);
    }

    /// Enters a finished scrape.
    pub fn end(&self, entry: ScrapeRecord) {
        let Book { snapshot, recent } = &mut *self.lock();
        let Snapshot {
            in_flight,
            outcomes,
            truncated,
            lengths_ignored,
            families_dropped,
            bytes,
            received,
            encodings,
            durations,
            phases,
            last,
            awaited_since: _,
        } = snapshot;
        *in_flight = in_flight.saturating_sub(1);
        *outcomes.entry(entry.outcome).or_default() += 1;
        if entry.truncated {
            *truncated.entry(entry.outcome).or_default() += 1;
        }
        *lengths_ignored += u64::from(entry.length_ignored);
        *families_dropped += entry.families_dropped;
        *bytes = bytes.saturating_add(entry.bytes);
        *received = received.saturating_add(entry.received);
        if let Some(encoding) = entry.encoding {
            *encodings.entry(encoding).or_default() += 1;
        }
        durations.add(entry.took);
        for (wait, distribution) in Phase::ALL.into_iter().zip(phases) {
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
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }

    /// All numbers at this moment, together with the last [`RECENT`] scrapes, oldest first.
    #[must_use]
    pub fn overview(&self) -> (Snapshot, Vec<ScrapeRecord>) {
        let book = self.lock();
        (book.snapshot.clone(), book.recent.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(outcome: &'static str) -> ScrapeRecord {
        let mut phases = PhaseDurations::default();
        phases.add(Phase::Connect, SECOND / 1000);
        phases.add(Phase::ReadWait, SECOND);
        phases.add(Phase::ReadWait, SECOND);
        ScrapeRecord {
            outcome,
            truncated: outcome != COMPLETE,
            length_ignored: outcome == COMPLETE,
            families_dropped: 3,
            success: outcome == COMPLETE,
            bytes: 7,
            received: 9,
            encoding: (outcome == COMPLETE).then_some(Encoding::Zstd),
            took: SECOND * 2,
            phases,
            ended: SystemTime::now(),
        }
    }

    #[test]
    fn every_number_of_an_entry_is_counted() {
        let now = Instant::now();
        let ledger = Ledger::new(now);
        for _ in 0..3 {
            ledger.begin(now);
        }
        ledger.end(entry(COMPLETE));
        ledger.end(entry("exporter_reset"));
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.in_flight, 1);
        assert_eq!(snapshot.outcomes, BTreeMap::from([(COMPLETE, 1), ("exporter_reset", 1)]));
        let truncated = snapshot.truncated.iter().filter(|(_, count)| **count > 0);
        assert_eq!(truncated.collect::<Vec<_>>(), [(&"exporter_reset", &1)]);
        assert_eq!((snapshot.lengths_ignored, snapshot.families_dropped), (1, 6));
        assert_eq!((snapshot.bytes, snapshot.received), (14, 18));
        let encodings = BTreeMap::from([(Encoding::Identity, 0), (Encoding::Zstd, 1)]);
        assert_eq!(snapshot.encodings, encodings);
        assert_eq!((snapshot.durations.count, snapshot.durations.sum), (2, 4.0));
        let filled = snapshot.durations.buckets.iter().filter(|(_, count)| *count > 0);
        assert_eq!(filled.collect::<Vec<_>>(), [&(2.5, 2)]);
        let counts = snapshot.phases.each_ref().map(|phase| (phase.count, phase.buckets[0].1));
        assert_eq!(counts, [(2, 2), (0, 0), (2, 0), (0, 0)]);
        assert_eq!(snapshot.last.map(|last| last.outcome), Some("exporter_reset"));
    }

    #[test]
    fn the_last_scrapes_are_kept_oldest_first() {
        let ledger = Ledger::new(Instant::now());
        ledger.end(entry("exporter_reset"));
        for _ in 1..RECENT {
            ledger.end(entry(COMPLETE));
        }
        let kept = || ledger.overview().1;
        assert_eq!((kept().len(), kept()[0].outcome), (RECENT, "exporter_reset"));
        ledger.end(entry(COMPLETE));
        assert_eq!((kept().len(), kept()[0].outcome), (RECENT, COMPLETE));
    }

    #[test]
    fn bucket_bounds_are_inclusive() {
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
        let overdue_at = |seconds| ledger.snapshot().is_overdue(SECOND, start + SECOND * seconds);
        assert!(!overdue_at(3), "three intervals count from the first reading");
        assert!(overdue_at(4));
        ledger.begin(start + SECOND * 4);
        assert!(!overdue_at(7));
        assert!(overdue_at(8), "a scrape in progress does not postpone the next");
        ledger.end(entry(COMPLETE));
        assert!(overdue_at(8), "the end of a scrape does not count as a new scrape");
    }
}
