//! The process-wide counts of scrapegate, and the text of `/metrics`.
//!
//! The numbers of each exporter are in its [`Ledger`](crate::scrape::ledger::Ledger), which is dropped when
//! a reload removes the exporter. The numbers here belong to the process and survive reloads. Every
//! label value comes from the configuration, or is one of a few constant words.

mod expiries;
mod exposition;
mod format;
mod process;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

pub use self::{expiries::Expiries, format::Format};
use self::{
    exposition::{Page, Row},
    process::Process,
};
use crate::{
    common::{
        error::{Refusal, Scope},
        reload::ReloadState,
    },
    scrape::exporters::Exporters,
};

/// How a TLS handshake ended: label `result` of `scrapegate_tls_handshakes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// The handshake is complete and the client is trusted.
    Ok,
    /// The client sent no certificate.
    NoCertificate,
    /// The client's certificate was rejected.
    BadCertificate,
    /// The client sent an alert, usually because it does not trust the proxy's certificate.
    RefusedByClient,
    /// The client does not speak TLS, or the two sides have no version or cipher suite in common.
    Protocol,
    /// The client closed or lost the connection.
    ConnectionLost,
    /// The handshake did not finish within `handshake-timeout`.
    TimedOut,
    /// The handshake was evicted: `max-handshakes` was reached, and this was the oldest unfinished
    /// handshake of the address with the most.
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

/// Why a connection was not accepted or was closed at once: label `kind` of
/// `scrapegate_accept_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcceptError {
    /// The client reset the connection before it was accepted.
    ConnectionLost,
    /// No file descriptor or no memory was available. The connection waits in the backlog.
    NoResources,
    /// The client's address already has `max-connections-per-ip` connections.
    PerIpLimit,
    /// The connection used plain HTTP and came from another host.
    PlainHttp,
    /// Any other error of accept(2).
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

/// Why a request never reached the handler: label `reason` of `scrapegate_http_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// The request head was not complete within `header-timeout`.
    HeaderTimeout,
    /// The request head was larger than 16 KiB, or had too many fields.
    HeadTooLarge,
    /// The bytes were not an HTTP request.
    Malformed,
    /// The client violated the TLS protocol after a successful handshake.
    BrokenTls,
    /// The client closed the connection before its password check was done. The attempt may be a
    /// guess, so it counts.
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

/// Counts by constant label value. All values that are known beforehand exist from the start, so
/// that the first event of a kind is visible as an increase.
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

/// The counts of the process, from its start, across all reloads.
#[derive(Debug)]
pub struct Metrics {
    unknown_exporter: Counter,
    connections: Gauge,
    handshakes: Tally,
    rejected: Tally,
    accept_errors: Tally,
    log_records_dropped: OnceLock<Counter>,
    expiries: Mutex<Expiries>,
}

impl Default for Metrics {
    /// All counts are zero.
    fn default() -> Self {
        let unread = Unread::ALL.map(Unread::label);
        let refused = Refusal::infos().filter(|info| info.scope == Scope::Request);
        let refused = refused.map(|info| info.label);
        Self {
            unknown_exporter: Counter::default(),
            connections: Gauge::default(),
            handshakes: Tally::new(Handshake::ALL.map(Handshake::label)),
            rejected: Tally::new(unread.into_iter().chain(refused)),
            accept_errors: Tally::new(AcceptError::ALL.map(AcceptError::label)),
            log_records_dropped: OnceLock::new(),
            expiries: Mutex::default(),
        }
    }
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct Connection(Gauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Counts an accepted connection as open until the returned value is dropped.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connections.inc();
        Connection(self.connections.clone())
    }

    /// Counts a connection that was not accepted.
    pub fn not_accepted(&self, error: AcceptError) {
        self.accept_errors.count(error.label());
    }

    /// Counts a finished TLS handshake.
    pub fn handshake(&self, result: Handshake) {
        self.handshakes.count(result.label());
    }

    /// Counts a request that was refused before it belonged to a configured exporter. `reason` is
    /// the label of the refusal.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.count(reason);
    }

    /// Counts a request that never reached the handler.
    pub fn unread(&self, reason: Unread) {
        self.rejected.count(reason.label());
    }

    /// Counts a scrape of an exporter that is not configured. Its name comes from the client, so it
    /// does not become a label.
    pub fn unknown_exporter(&self) {
        self.unknown_exporter.inc();
    }

    /// Exports `dropped`, the number of dropped log records, from now on.
    pub fn watch_log(&self, dropped: Counter) {
        // There is one log per process. If this is called again, the first counter stays.
        let _ = self.log_records_dropped.set(dropped);
    }

    /// Notes which files are in use. Each certificate and CRL comes as its file and its end (notAfter,
    /// or nextUpdate), in seconds since 1970 (UTC). The earliest end of each file is exported.
    pub fn files_in_use<'a>(
        &self,
        certificates: impl IntoIterator<Item = (&'a Path, i64)>,
        revocation_lists: impl IntoIterator<Item = (&'a Path, i64)>,
    ) {
        *self.lock_expiries() = Expiries::of(certificates, revocation_lists);
    }

    /// When the files in use expire.
    #[must_use]
    pub fn expiries(&self) -> Expiries {
        self.lock_expiries().clone()
    }

    fn lock_expiries(&self) -> MutexGuard<'_, Expiries> {
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renders all metrics at this moment, including those of `exporters` and the result of the
    /// last reload. `now` decides which
    /// exporters are overdue.
    #[must_use]
    pub fn render(
        &self,
        exporters: Option<&Exporters>,
        reload: ReloadState,
        format: Format,
        now: Instant,
    ) -> String {
        let exporters = exporters.into_iter().flat_map(Exporters::iter);
        let page = Page {
            exporters: exporters.map(|exporter| Row::of(exporter, now)).collect(),
            unknown_exporter: self.unknown_exporter.get(),
            connections: self.connections.get(),
            handshakes: self.handshakes.counts(),
            rejected: self.rejected.counts(),
            accept_errors: self.accept_errors.counts(),
            log_records_dropped: self.log_records_dropped.get().map_or(0, Counter::get),
            reload,
            expiries: self.expiries(),
            process: Process::now(),
        };
        page.write(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_label_value_and_starts_at_zero() {
        let metrics = Metrics::default();
        assert_eq!(metrics.handshakes.counts().len(), Handshake::ALL.len());
        assert_eq!(metrics.accept_errors.counts().len(), AcceptError::ALL.len());
        let rejected = metrics.rejected.counts();
        assert!(rejected.len() > Unread::ALL.len());
        assert!(rejected.values().all(|&count| count == 0));
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
}
