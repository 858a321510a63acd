//! The proxy's own metrics, as a scraper reads them.

use std::{collections::BTreeMap, time::Instant};

use crate::{PATIENCE, client::Client};

/// The event counters. Each event increments exactly one of them, by one.
const EVENTS: [&str; 4] = [
    "scrapegate_scrapes_total{",
    "scrapegate_http_rejected_total{",
    "scrapegate_accept_errors_total{",
    "scrapegate_tls_handshakes_total{",
];

/// The counter of successful handshakes. Each accepted connection has one.
pub const ACCEPTED: &str = "scrapegate_tls_handshakes_total{result=\"ok\"}";

/// A snapshot of the metrics: the series, as they are written, and their values. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Requests the metrics over this connection.
    ///
    /// # Panics
    /// If the response is not complete.
    pub fn of(client: &mut Client) -> Self {
        Self::with(client, "")
    }

    /// Requests the metrics with these header lines.
    pub fn with(client: &mut Client, headers: &str) -> Self {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        client.send(request).expect("the request is sent");
        let response = client.read_response().expect("a response head");
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_eq!(response.body.start.len() as u64, response.body.bytes, "more than is kept");
        Self::parse(&response.body.text())
    }

    /// Parses either text format.
    ///
    /// # Panics
    /// If a line is not a sample, or a series occurs twice.
    pub fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
            assert!(all.insert(series.to_owned(), value).is_none(), "duplicate series {series}");
        }
        Self(all)
    }

    /// The value of a series.
    ///
    /// # Panics
    /// If the series is missing.
    pub fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// The value of a series, if it exists.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// All series that start with `start`, with their values.
    pub fn starting_with<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let all = self.0.iter().map(|(series, &value)| (series.as_str(), value));
        all.filter(move |(series, _)| series.starts_with(start))
    }

    /// The sum of all series that start with `start`.
    pub fn sum(&self, start: &str) -> f64 {
        self.starting_with(start).map(|(_, value)| value).sum()
    }

    /// The event counters that have moved since `before`, with the differences.
    pub fn events_since(&self, before: &Self) -> BTreeMap<&str, f64> {
        let events = EVENTS.iter().flat_map(|name| self.starting_with(name));
        events
            .map(|(series, value)| (series, value - before.get(series).unwrap_or(0.0)))
            .filter(|(_, moved)| *moved != 0.0)
            .collect()
    }

    /// Requests the metrics, with these header lines, until `wanted` accepts them.
    ///
    /// # Panics
    /// With the last metrics, after [`PATIENCE`].
    pub fn wait_for(
        client: &mut Client,
        headers: &str,
        what: &str,
        mut wanted: impl FnMut(&Self) -> bool,
    ) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let samples = Self::with(client, headers);
            if wanted(&samples) {
                return samples;
            }
            assert!(Instant::now() < deadline, "timed out: {what}: {:#?}", samples.0);
        }
    }
}

/// Runs `happen`, and waits until `series` has moved by one. Asserts that no other event was
/// counted, except handshakes of accepted clients.
///
/// # Panics
/// If another event was counted, or after [`PATIENCE`].
#[track_caller]
pub fn assert_moves<T>(
    series: &str,
    mut read: impl FnMut() -> Samples,
    happen: impl FnOnce() -> T,
) -> T {
    let before = read();
    let kept = happen();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = read();
        let mut events = samples.events_since(&before);
        events.remove(ACCEPTED);
        if !events.is_empty() {
            assert_eq!(events, BTreeMap::from([(series, 1.0)]));
            return kept;
        }
        assert!(Instant::now() < deadline, "{series} does not move");
    }
}
