//! Durations and instants: a [`Budget`] is the time that the configuration grants, a [`Deadline`]
//! is the instant at which that time ends.

use std::{fmt, time::Duration};

use hyper::header::HeaderValue;
use tokio::time::Instant;

/// A positive duration of at most [`Budget::MAX`], such as the `timeout` of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget(Duration);

impl Budget {
    /// The longest budget: one day. A longer one in a configuration file is an error.
    pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// The budget of a request that asks no exporter: ten seconds, the default `scrape_timeout` of
    /// Prometheus.
    pub const OF_OWN_ANSWERS: Self = Self(Duration::from_secs(10));

    /// Returns `None` if `length` is zero or longer than [`Budget::MAX`].
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        (!length.is_zero() && length <= Self::MAX).then_some(Self(length))
    }

    /// The budget as a duration.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// The header with which Prometheus announces its `scrape_timeout`, in seconds.
pub const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The shortest time that a scraper's header can leave for a scrape: 0.1 s.
pub const SHORTEST_SCRAPE: Duration = Duration::from_millis(100);

/// The instant at which a scrape ends, no matter which side stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a scrape whose request arrived at `arrival`: after `timeout`, or after the
    /// time in `header` less `offset`, whichever is earlier.
    ///
    /// The clock starts when the request head is complete, and stops when the last byte is handed
    /// to the socket. A header that is not a finite positive number is ignored. A header never
    /// leaves less than [`SHORTEST_SCRAPE`], unless `timeout` itself is shorter.
    #[must_use]
    pub fn of_scrape(
        arrival: Instant,
        timeout: Budget,
        header: Option<&HeaderValue>,
        offset: Duration,
    ) -> Self {
        let granted = header
            .and_then(seconds)
            .map(|granted| granted.saturating_sub(offset).max(SHORTEST_SCRAPE))
            .map_or(timeout.as_duration(), |granted| granted.min(timeout.as_duration()));
        Self(arrival + granted)
    }

    /// The deadline that is `budget` after `start`.
    #[must_use]
    pub fn after(start: Instant, budget: Budget) -> Self {
        Self(start + budget.as_duration())
    }

    /// The earlier of two deadlines.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// The instant at which the deadline passes.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// The time left at `now`; zero if the deadline has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

/// A finite positive number of seconds, in the form that Prometheus writes (`10.000000`).
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let number: f64 = value.to_str().ok()?.trim().parse().ok()?;
    (number.is_finite() && number > 0.0)
        .then(|| Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn granted(timeout: f64, header: Option<&str>, offset: f64) -> f64 {
        let arrival = Instant::now();
        let header = header.map(|value| HeaderValue::from_str(value).unwrap());
        let timeout = Budget::new(Duration::from_secs_f64(timeout)).unwrap();
        let offset = Duration::from_secs_f64(offset);
        Deadline::of_scrape(arrival, timeout, header.as_ref(), offset)
            .remaining(arrival)
            .as_secs_f64()
    }

    #[test]
    fn the_deadline_is_the_smaller_of_the_timeout_and_the_header_less_the_offset() {
        for (timeout, header, offset, expected) in [
            (5.0, None, 0.25, 5.0),
            (5.0, Some("10.000000"), 0.25, 5.0),
            (5.0, Some("5"), 0.25, 4.75),
            (5.0, Some("2.5"), 0.25, 2.25),
            (5.0, Some("2.5"), 0.0, 2.5),
            // At least 0.1 s, unless the timeout itself is shorter.
            (5.0, Some("0.3"), 0.25, 0.1),
            (5.0, Some("0.01"), 0.25, 0.1),
            (0.05, Some("0.01"), 0.25, 0.05),
            // Finite and positive: clamped.
            (5.0, Some("1e308"), 0.25, 5.0),
            (5.0, Some("1e-300"), 0.0, 0.1),
        ] {
            assert!(
                (granted(timeout, header, offset) - expected).abs() < 1e-6,
                "timeout {timeout}, header {header:?}, offset {offset}"
            );
        }
    }

    #[test]
    fn a_header_that_is_not_a_finite_positive_number_is_ignored() {
        let long = "1".repeat(10_000);
        for header in ["0", "-1", "NaN", "inf", "-inf", "infinity", "1,2", "", "5s", "0x5", &long] {
            assert!((granted(5.0, Some(header), 0.25) - 5.0).abs() < 1e-9, "{header}");
        }
    }

    #[test]
    fn a_budget_is_positive_and_at_most_a_day() {
        assert_eq!(Budget::MAX, Duration::from_secs(86_400));
        assert!(Budget::new(Duration::ZERO).is_none());
        assert!(Budget::new(Duration::from_nanos(1)).is_some());
        assert!(Budget::new(Budget::MAX).is_some());
        assert!(Budget::new(Budget::MAX + Duration::from_nanos(1)).is_none());
    }

    #[test]
    fn a_deadline_is_its_budget_after_the_start() {
        let budget = Budget::new(Duration::from_millis(250)).unwrap();
        assert_eq!(budget.to_string(), "0.25 s");
        let start = Instant::now();
        let deadline = Deadline::after(start, budget);
        assert_eq!(deadline.instant(), start + budget.as_duration());
        let later = Deadline::after(start, Budget::new(Budget::MAX).unwrap());
        assert_eq!((later.min(deadline), deadline.min(later)), (deadline, deadline));
    }
}
