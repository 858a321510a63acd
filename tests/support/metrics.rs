//! The proxy's own metrics, as a scraper reads them.

use std::{collections::BTreeMap, time::Instant};

use super::{PATIENCE, client::Client};

/// The counters of events: each event moves one of them, and that by one.
const EVENTS: [&str; 4] = [
    "scrapegate_scrapes_total{",
    "scrapegate_http_rejected_total{",
    "scrapegate_accept_errors_total{",
    "scrapegate_tls_handshakes_total{",
];

/// The handshakes of clients that are let in: each connection has one.
pub(crate) const LET_IN: &str = "scrapegate_tls_handshakes_total{result=\"ok\"}";

/// The samples of one moment: series, as they are written, and their values. At first there are
/// none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Asks for them over this connection.
    ///
    /// # Panics
    /// When that is not all of them.
    pub(crate) fn of(client: &mut Client) -> Self {
        Self::with(client, "")
    }

    /// The same with these header lines.
    pub(crate) fn with(client: &mut Client, headers: &str) -> Self {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        client.send(request).expect("the request is sent");
        let response = client.read_response().expect("a response head");
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_eq!(response.body.start.len() as u64, response.body.bytes, "more than is kept");
        Self::parse(&response.body.text())
    }

    /// Reads either text format.
    ///
    /// # Panics
    /// When a line is none, or a series is there twice.
    pub(crate) fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
            assert!(all.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
        Self(all)
    }

    /// The value of a series.
    ///
    /// # Panics
    /// When it is not there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// The value of a series, if it is there.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// All series that start like this, with their values.
    pub(crate) fn starting_with<'a>(
        &'a self,
        start: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let all = self.0.iter().map(|(series, &value)| (series.as_str(), value));
        all.filter(move |(series, _)| series.starts_with(start))
    }

    /// All of these series together.
    pub(crate) fn sum(&self, start: &str) -> f64 {
        self.starting_with(start).map(|(_, value)| value).sum()
    }

    /// The events counted since `before`.
    pub(crate) fn events_since(&self, before: &Self) -> BTreeMap<&str, f64> {
        let events = EVENTS.iter().flat_map(|name| self.starting_with(name));
        events
            .map(|(series, value)| (series, value - before.get(series).unwrap_or(0.0)))
            .filter(|(_, moved)| *moved != 0.0)
            .collect()
    }

    /// Asks again and again, with these header lines, until they are as `wanted`.
    ///
    /// # Panics
    /// With the last ones, after [`PATIENCE`].
    pub(crate) fn wait_for(
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
            assert!(Instant::now() < deadline, "never {what}: {:#?}", samples.0);
        }
    }
}

/// Lets `happen`, and waits until `series` has moved by one, and no other event but clients that
/// are let in was counted.
///
/// # Panics
/// Otherwise, at the latest after [`PATIENCE`].
#[track_caller]
pub(crate) fn assert_moves<T>(
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
        events.remove(LET_IN);
        if !events.is_empty() {
            assert_eq!(events, BTreeMap::from([(series, 1.0)]));
            return kept;
        }
        assert!(Instant::now() < deadline, "{series} does not move");
    }
}
