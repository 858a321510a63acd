//! What scrapegate counts about itself, and `/metrics`.
//!
//! The numbers of an exporter are in its [`Ledger`](crate::ledger::Ledger), and go with it when a
//! reload takes it out; here are those of the process. Every label comes from the configuration, or
//! is one of a few constant words.

mod exposition;
mod format;
mod process;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Instant, SystemTime},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

pub use self::format::Format;
use self::{
    exposition::{Page, Row},
    process::Process,
};
use crate::{
    error::{EnrolError, REJECTIONS},
    exporter::Exporters,
};

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// The client is let in.
    Ok,
    /// The client showed no certificate.
    NoCertificate,
    /// The client's certificate was refused.
    BadCertificate,
    /// The client sent an alert: as a rule it does not trust the proxy's certificate.
    RefusedByClient,
    /// What the client sent is no TLS, or the two have no version or cipher suite in common.
    Protocol,
    /// The client went away.
    ConnectionLost,
    /// `handshake-timeout` was over.
    TimedOut,
    /// `max-handshakes` was reached, and this was the oldest of the address with the most.
    Evicted,
    /// The proxy shut down.
    Shutdown,
}

impl Handshake {
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::RefusedByClient,
        Self::Protocol,
        Self::ConnectionLost,
        Self::TimedOut,
        Self::Evicted,
        Self::Shutdown,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Protocol => "protocol",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut => "timed_out",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a connection was not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcceptError {
    /// It was gone before it was accepted.
    ConnectionLost,
    /// No descriptor or no memory for it. It waits in the backlog.
    NoResources,
    /// Its address has `max-connections-per-ip`.
    PerIpLimit,
    /// It came in plain HTTP from another host.
    PlainHttp,
    /// Anything else that accept(2) says.
    Other,
}

impl AcceptError {
    const ALL: [Self; 5] =
        [Self::ConnectionLost, Self::NoResources, Self::PerIpLimit, Self::PlainHttp, Self::Other];

    fn label(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection_lost",
            Self::NoResources => "no_resources",
            Self::PerIpLimit => "max_connections_per_ip",
            Self::PlainHttp => "plain_http",
            Self::Other => "other",
        }
    }
}

/// Why a request got no answer, or there was none to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// No complete head within `header-timeout`.
    HeaderTimeout,
    /// A head larger than 16 KiB, or with too many fields.
    HeadTooLarge,
    /// No HTTP.
    Malformed,
    /// No TLS any more, after a handshake that was in order.
    BrokenTls,
    /// The client left while its password was checked, or before. It is a guess all the same.
    LeftUnchecked,
}

impl Unread {
    const ALL: [Self; 5] = [
        Self::HeaderTimeout,
        Self::HeadTooLarge,
        Self::Malformed,
        Self::BrokenTls,
        Self::LeftUnchecked,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::Malformed => "malformed",
            Self::BrokenTls => "broken_tls",
            Self::LeftUnchecked => "left_unchecked",
        }
    }
}

/// Counts by a constant word. All words that are known beforehand are there from the start, so that
/// the first event of a kind is an increase.
#[derive(Debug)]
struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Mutex::new(words.into_iter().map(|word| (word, 0)).collect()))
    }

    fn count(&self, word: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the last reading of the configuration gave.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Whether it was in order.
    pub last_successful: bool,
    /// When a configuration was last taken into use.
    pub last_success: SystemTime,
    /// When the first certificate of each file expires, in seconds since 1970.
    pub certificates: BTreeMap<String, i64>,
    /// When the first revocation list of each file is out of date, in seconds since 1970.
    pub revocation_lists: BTreeMap<String, i64>,
}

/// Counts what the process does, from its start on, through all reloads.
#[derive(Debug)]
pub struct Metrics {
    unknown_exporter: Counter,
    connections: Gauge,
    handshakes: Tally,
    rejected: Tally,
    accept_errors: Tally,
    log_records_dropped: OnceLock<Counter>,
    configured: Mutex<Configured>,
}

impl Default for Metrics {
    /// Nothing has happened but a successful reading of the configuration.
    fn default() -> Self {
        let unread = Unread::ALL.map(Unread::label);
        Self {
            unknown_exporter: Counter::default(),
            connections: Gauge::default(),
            handshakes: Tally::new(Handshake::ALL.map(Handshake::label)),
            rejected: Tally::new(unread.into_iter().chain(REJECTIONS).chain(EnrolError::LABELS)),
            accept_errors: Tally::new(AcceptError::ALL.map(AcceptError::label)),
            log_records_dropped: OnceLock::new(),
            configured: Mutex::new(Configured {
                last_successful: true,
                last_success: SystemTime::now(),
                certificates: BTreeMap::new(),
                revocation_lists: BTreeMap::new(),
            }),
        }
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Connection(Gauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A connection was accepted.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connections.inc();
        Connection(self.connections.clone())
    }

    /// A connection was not taken on.
    pub fn not_accepted(&self, error: AcceptError) {
        self.accept_errors.count(error.label());
    }

    /// A TLS handshake is over.
    pub fn handshake(&self, result: Handshake) {
        self.handshakes.count(result.label());
    }

    /// A request was refused before it was known which exporter it is for, or that it is for none;
    /// `reason` is the refusal's word.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.count(reason);
    }

    /// A request got no answer.
    pub fn unread(&self, reason: Unread) {
        self.rejected.count(reason.label());
    }

    /// A scrape of an exporter that does not exist. Its name is the client's, and no label.
    pub fn unknown_exporter(&self) {
        self.unknown_exporter.inc();
    }

    /// From now on `dropped` counts the log records that were dropped.
    pub fn watch_log(&self, dropped: Counter) {
        // There is one log, and the first counter is its own.
        let _ = self.log_records_dropped.set(dropped);
    }

    /// A configuration is in use from `now` on. Its certificates and revocation lists are files with
    /// the time, in seconds since 1970, at which the first one in them expires or is out of date.
    pub fn configured<'a>(
        &self,
        now: SystemTime,
        certificates: impl IntoIterator<Item = (&'a Path, i64)>,
        revocation_lists: impl IntoIterator<Item = (&'a Path, i64)>,
    ) {
        *self.lock_configured() = Configured {
            last_successful: true,
            last_success: now,
            certificates: first_ends(certificates),
            revocation_lists: first_ends(revocation_lists),
        };
    }

    /// A reload was refused: the configuration in use stays.
    pub fn reload_failed(&self) {
        self.lock_configured().last_successful = false;
    }

    /// What the last reading of the configuration gave.
    #[must_use]
    pub fn configuration(&self) -> Configured {
        self.lock_configured().clone()
    }

    fn lock_configured(&self) -> MutexGuard<'_, Configured> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All metrics at this moment, those of `exporters` among them.
    #[must_use]
    pub fn render(&self, exporters: Option<&Exporters>, format: Format, now: Instant) -> String {
        let exporters = exporters.into_iter().flat_map(Exporters::iter);
        let page = Page {
            exporters: exporters.map(|exporter| Row::of(exporter, now)).collect(),
            unknown_exporter: self.unknown_exporter.get(),
            connections: self.connections.get(),
            handshakes: self.handshakes.counts(),
            rejected: self.rejected.counts(),
            accept_errors: self.accept_errors.counts(),
            log_records_dropped: self.log_records_dropped.get().map_or(0, Counter::get),
            configured: self.configuration(),
            process: Process::now(),
        };
        page.write(format)
    }
}

/// The first end of each file.
fn first_ends<'a>(all: impl IntoIterator<Item = (&'a Path, i64)>) -> BTreeMap<String, i64> {
    let mut by_file = BTreeMap::new();
    for (file, end) in all {
        let first = by_file.entry(file.display().to_string()).or_insert(end);
        *first = end.min(*first);
    }
    by_file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own_and_starts_at_zero() {
        let metrics = Metrics::default();
        assert_eq!(metrics.handshakes.counts().len(), Handshake::ALL.len());
        assert_eq!(metrics.accept_errors.counts().len(), AcceptError::ALL.len());
        let words = Unread::ALL.len() + REJECTIONS.len() + EnrolError::LABELS.len();
        assert_eq!(metrics.rejected.counts().len(), words);
        assert!(metrics.rejected.counts().values().all(|&count| count == 0));
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.connection(), metrics.connection());
        assert_eq!(metrics.connections.get(), 2);
        drop(one);
        drop(two);
        assert_eq!(metrics.connections.get(), 0);
    }

    #[test]
    fn of_a_file_named_twice_the_earlier_expiry_counts() {
        let metrics = Metrics::default();
        let file = Path::new("/a.pem");
        let ends = [(file, 7), (file, 5), (Path::new("/b.pem"), 9)];
        metrics.configured(SystemTime::now(), ends, []);
        let certificates = metrics.lock_configured().certificates.clone();
        assert_eq!(
            certificates,
            BTreeMap::from([("/a.pem".to_owned(), 5), ("/b.pem".to_owned(), 9)])
        );
        metrics.reload_failed();
        assert!(!metrics.lock_configured().last_successful);
        assert_eq!(metrics.lock_configured().certificates, certificates);
    }
}
