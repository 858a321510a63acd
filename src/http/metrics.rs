//! The process-wide counts of scrapegate, and the text of `/metrics`.
//!
//! The numbers of each exporter are in its [`Ledger`](crate::scrape::ledger::Ledger), which is dropped when
//! a reload removes the exporter. The numbers here belong to the process and survive reloads. Every
//! label value comes from the configuration, or is one of a few constant words.

mod counter_vec;
mod events;
mod expiries;
mod exposition;
mod families;
mod format;
mod process;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use self::{
    counter_vec::CounterVec,
    exposition::{Readings, Row},
    process::Process,
};
pub use self::{
    events::{AcceptError, Handshake, Unread},
    expiries::Expiries,
    format::Format,
};
use crate::{
    common::{
        error::{Refusal, Scope},
        reload::ReloadState,
    },
    scrape::exporters::Exporters,
};

/// The counts of the process, from its start, across all reloads.
#[derive(Debug)]
pub struct Metrics {
    unknown_exporter: Counter,
    connections: Gauge,
    handshakes: CounterVec,
    rejected: CounterVec,
    accept_errors: CounterVec,
    log_records_dropped: OnceLock<Counter>,
    expiries: Mutex<Expiries>,
}

impl Default for Metrics {
    /// All counts are zero.
    fn default() -> Self {
        let refused = Refusal::infos().filter(|info| info.scope == Scope::Request);
        let refused = refused.map(|info| info.label);
        Self {
            unknown_exporter: Counter::default(),
            connections: Gauge::default(),
            handshakes: CounterVec::new(Handshake::LABELS.iter().copied()),
            rejected: CounterVec::new(Unread::LABELS.iter().copied().chain(refused)),
            accept_errors: CounterVec::new(AcceptError::LABELS.iter().copied()),
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
        let readings = Readings {
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
        readings.write(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_label_value_and_starts_at_zero() {
        let metrics = Metrics::default();
        assert_eq!(metrics.handshakes.counts().len(), Handshake::LABELS.len());
        assert_eq!(metrics.accept_errors.counts().len(), AcceptError::LABELS.len());
        let rejected = metrics.rejected.counts();
        assert!(rejected.len() > Unread::LABELS.len());
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
