//! The delivery of an answer to its scraper: what was sent, how long each side was waited for, and
//! how the scrape ended.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hyper::{StatusCode, header::HeaderMap};

use super::{
    encoding::Encoding,
    exporters::ActiveExporter,
    ledger::ScrapeRecord,
    outcome::{Outcome, Unusable},
    phase::{Phase, PhaseTimer},
};
use crate::common::{
    error::{Abort, Blame, Chain, Refusal, UpstreamError},
    peer::Peer,
};

/// The control of a connection that a body needs. The state of the scraper's connection implements
/// it.
pub trait DeliveryControl: fmt::Debug + Send + Sync {
    /// The delivery of the connection's current scrape.
    fn delivery(&self) -> &Delivery;

    /// How many bytes the socket will probably accept at once. `None` while the TLS buffer has bytes
    /// that the socket did not accept; then the task is registered to be woken when the socket is
    /// writable.
    fn room(&self) -> Option<usize>;

    /// The current response was aborted. The socket must be reset, so that no client takes the end
    /// of the connection for the end of the message.
    fn reset_on_close(&self);
}

/// The delivery of one answer at a time. The connection owns it, and the handler and the body
/// report to it.
///
/// Every scrape that [begins](Delivery::begin) is counted and logged exactly once, when it ends. If
/// the connection ends first, it ends the scrape with [`Delivery::cut_off`].
///
/// All methods are called in the task of the connection, so the lock is never contended. Reports
/// about a scrape that has ended are ignored.
#[derive(Debug, Default)]
pub struct Delivery(Mutex<Option<Scrape>>);

impl Delivery {
    fn lock(&self) -> MutexGuard<'_, Option<Scrape>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, change: impl FnOnce(&mut Scrape)) {
        if let Some(scrape) = &mut *self.lock() {
            change(scrape);
        }
    }

    fn take(&self) -> Option<Scrape> {
        self.lock().take()
    }

    // Reported by the handler.

    /// A scrape begins. `arrival` is the arrival of the request, which also starts the clock of the
    /// deadline.
    pub fn begin(&self, exporter: Arc<ActiveExporter>, peer: Arc<Peer>, arrival: Instant) {
        let scrape = Scrape::begin(exporter, peer, arrival);
        let before = self.lock().replace(scrape);
        debug_assert!(before.is_none(), "hyper starts a request after the flush of the last one");
        if let Some(before) = before {
            before.close(Outcome::Aborted(Abort::ScraperGone), None);
        }
    }

    /// The exporter is asked so late that it is not to blame if the deadline passes.
    pub fn asks_late(&self) {
        self.report(|scrape| scrape.asks_late = true);
    }

    /// The proxy starts to connect to the exporter.
    pub fn connecting(&self) {
        self.report(|scrape| {
            scrape.timer.resume();
            scrape.timer.wait_for(Phase::Connect);
        });
    }

    /// The connection to the exporter is established.
    pub fn connected(&self) {
        self.report(|scrape| {
            scrape.connected = Some(scrape.begun.elapsed());
            scrape.timer.resume();
            scrape.timer.wait_for(Phase::FirstByte);
        });
    }

    /// The response head and the first bytes of the body have arrived.
    /// `headers` are the exporter's, and `encoding` is that of the response.
    pub fn first_byte(&self, status: StatusCode, headers: &HeaderMap, encoding: Encoding) {
        self.report(|scrape| {
            scrape.status = Some(status);
            scrape.encoding = Some(encoding);
            scrape.is_compressed =
                encoding != Encoding::Identity && Encoding::of(headers) == Encoding::Identity;
            scrape.unusable = Unusable::of(status, headers);
            scrape.first_byte = Some(scrape.begun.elapsed());
            scrape.timer.resume();
            // A body that has already arrived completely reaches this phase too, with a wait of
            // zero.
            scrape.timer.spent.add(Phase::ReadWait, Duration::ZERO);
            scrape.timer.wait_for(Phase::WriteWait);
        });
    }

    /// The exporter sent a `Content-Length` that was ignored. Such an exporter is broken or hostile.
    pub fn length_ignored(&self) {
        self.report(|scrape| scrape.length_ignored = true);
    }

    /// The answer is filtered. `dropped` is the number of families that were left out so far.
    pub fn filters(&self, dropped: Arc<AtomicU64>) {
        self.report(|scrape| scrape.families_dropped = Some(dropped));
    }

    /// Why the deadline passed before the first byte of the body was passed on.
    #[must_use]
    pub fn late_first_byte(&self) -> UpstreamError {
        match &*self.lock() {
            Some(scrape) if scrape.received > 0 => UpstreamError::NothingPassed,
            Some(_) | None => UpstreamError::FirstByteTimeout,
        }
    }

    /// The scrape ends with a response of the proxy itself.
    pub fn refuse(&self, refusal: &Refusal) {
        if let Some(scrape) = self.take() {
            let info = refusal.info();
            let outcome = Outcome::Refused(info.status, info.label, info.blame);
            scrape.close(outcome, Some(refusal));
        }
    }

    // Reported by the body.

    /// hyper asks for the next bytes of the body: a wait has ended.
    pub fn resume(&self) {
        self.report(|scrape| scrape.timer.resume());
    }

    /// `received` bytes of the exporter's body have arrived in total.
    pub fn received(&self, received: u64) {
        self.report(|scrape| scrape.received = received);
    }

    /// The body has passed on `bytes` and now waits in `phase`. `received` bytes of the exporter's
    /// body have arrived in total.
    pub fn wait_for(&self, phase: Phase, bytes: u64, received: u64) {
        self.report(|scrape| {
            scrape.bytes += bytes;
            scrape.received = received;
            scrape.timer.wait_for(phase);
        });
    }

    /// The body was aborted. Call this after the permit was returned: a reader of the record relies
    /// on it.
    pub fn abort(&self, abort: Abort) {
        if let Some(scrape) = self.take() {
            scrape.close(Outcome::Aborted(abort), None);
        }
    }

    /// hyper has the complete message. The scrape is complete at the next flush.
    pub fn whole(&self) {
        self.report(|scrape| scrape.is_whole = true);
    }

    // Reported by the connection.

    /// Whether hyper has the complete message of the current scrape.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lock().as_ref().is_some_and(|scrape| scrape.is_whole)
    }

    /// Whether scrapegate compresses the answer of the current scrape.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.lock().as_ref().is_some_and(|scrape| scrape.is_compressed)
    }

    /// The socket has accepted the last byte of the complete message.
    pub fn complete(&self) {
        if let Some(scrape) = self.take() {
            scrape.close(Outcome::Complete, None);
        }
    }

    /// The scrape ends before its answer does. `cause` tells why, given the phase in which the scrape
    /// waits.
    pub fn cut_off(&self, cause: impl FnOnce(Option<Phase>) -> Abort) {
        if let Some(scrape) = self.take() {
            let cause = cause(scrape.timer.waiting_for());
            let abort = if std::thread::panicking() {
                Abort::Panicked
            } else if scrape.asks_late && cause == Abort::DeadlineExporter {
                Abort::DeadlineProxy
            } else {
                cause
            };
            scrape.close(Outcome::Aborted(abort), None);
        }
    }
}

impl Drop for Delivery {
    /// Ends a scrape that nobody has ended.
    fn drop(&mut self) {
        self.cut_off(|_| Abort::ScraperGone);
    }
}

/// The accounting of one scrape.
struct Scrape {
    exporter: Arc<ActiveExporter>,
    peer: Arc<Peer>,
    begun: Instant,
    status: Option<StatusCode>,
    connected: Option<Duration>,
    first_byte: Option<Duration>,
    bytes: u64,
    received: u64,
    encoding: Option<Encoding>,
    /// scrapegate itself compresses the answer.
    is_compressed: bool,
    length_ignored: bool,
    families_dropped: Option<Arc<AtomicU64>>,
    asks_late: bool,
    is_whole: bool,
    /// Why Prometheus does not accept the answer, and the text for the log.
    unusable: Option<(Unusable, String)>,
    timer: PhaseTimer,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape")
            .field("exporter", &self.exporter.config.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Scrape {
    fn begin(exporter: Arc<ActiveExporter>, peer: Arc<Peer>, begun: Instant) -> Self {
        exporter.state.ledger.begin(begun);
        Self {
            exporter,
            peer,
            begun,
            status: None,
            connected: None,
            first_byte: None,
            bytes: 0,
            received: 0,
            encoding: None,
            is_compressed: false,
            length_ignored: false,
            families_dropped: None,
            asks_late: false,
            is_whole: false,
            unusable: None,
            timer: PhaseTimer::start(begun),
        }
    }

    /// Counts the scrape before it writes the log record. A reader of the record can rely on the
    /// counters.
    fn close(mut self, outcome: Outcome, cause: Option<&dyn std::error::Error>) {
        let outcome = self.judged(outcome);
        self.timer.resume();
        let took = self.begun.elapsed();
        self.exporter.state.ledger.end(ScrapeRecord {
            outcome: outcome.label(),
            truncated: matches!(outcome, Outcome::Aborted(_)) && self.status.is_some(),
            length_ignored: self.length_ignored,
            families_dropped: self.families_dropped().unwrap_or_default(),
            success: outcome == Outcome::Complete,
            bytes: self.bytes,
            received: self.received,
            encoding: self.encoding,
            took,
            phases: self.timer.spent,
            ended: SystemTime::now(),
        });
        self.log(outcome, took, cause);
    }

    fn families_dropped(&self) -> Option<u64> {
        self.families_dropped.as_ref().map(|dropped| dropped.load(Ordering::Relaxed))
    }

    /// A complete answer that Prometheus does not accept is not a success.
    fn judged(&self, outcome: Outcome) -> Outcome {
        match (outcome, &self.unusable) {
            (Outcome::Complete, Some((unusable, _))) => Outcome::Unusable(*unusable),
            (outcome, _) => outcome,
        }
    }

    fn log(&self, outcome: Outcome, took: Duration, cause: Option<&dyn std::error::Error>) {
        let exporter = self.timer.spent.exporter();
        let network = self.timer.spent.network();
        let status = match outcome {
            Outcome::Refused(status, ..) => Some(status),
            Outcome::Complete | Outcome::Unusable(_) | Outcome::Aborted(_) => self.status,
        };
        let cause = match (outcome, cause) {
            (_, Some(cause)) => Some(Chain(cause).to_string()),
            (Outcome::Aborted(abort), None) => Some(abort.to_string()),
            (Outcome::Unusable(_), None) => self.unusable.as_ref().map(|(_, words)| words.clone()),
            (Outcome::Complete | Outcome::Refused(..), None) => None,
        };
        // The macro requires a constant level, so the record is written once for each level.
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(
                    exporter = self.exporter.config.name.as_str(),
                    outcome = outcome.label(),
                    blame = outcome.blame().map(Blame::label),
                    status = status.map(|status| status.as_u16()),
                    encoding = self.encoding.map(Encoding::label),
                    received_bytes = self.received,
                    bytes = self.bytes,
                    seconds = seconds(took),
                    connect_seconds = self.connected.map(seconds),
                    first_byte_seconds = self.first_byte.map(seconds),
                    exporter_seconds = seconds(exporter),
                    network_seconds = seconds(network),
                    content_length = self.length_ignored.then_some("ignored"),
                    families_dropped = self.families_dropped(),
                    client = self.peer.client(),
                    peer = %self.peer.address,
                    cause,
                    "scrape"
                )
            };
        }
        match outcome {
            Outcome::Complete => record!(info),
            Outcome::Unusable(_) | Outcome::Refused(..) | Outcome::Aborted(_) => record!(warn),
        }
    }
}

/// Seconds, rounded to 0.1 ms. Smaller values would be printed as `5.3e-5`.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::exporters::fixture;

    /// A delivery with a scrape that has begun, and its exporter.
    fn begun() -> (Delivery, Arc<ActiveExporter>) {
        let exporter = Arc::new(ActiveExporter::from(fixture::exporter()));
        let peer = Arc::new(Peer { address: ([127, 0, 0, 1], 1).into(), identity: None });
        let delivery = Delivery::default();
        delivery.begin(Arc::clone(&exporter), peer, Instant::now());
        (delivery, exporter)
    }

    /// The outcomes of finished scrapes, and the number of scrapes in flight.
    fn counted(exporter: &ActiveExporter) -> (Vec<&'static str>, u64) {
        let snapshot = exporter.state.ledger.snapshot();
        let ended = snapshot.outcomes.into_iter().filter(|(_, count)| *count > 0);
        let ended = ended.flat_map(|(outcome, count)| (0..count).map(move |_| outcome));
        (ended.collect(), snapshot.in_flight)
    }

    #[test]
    fn f05_a_late_body_does_not_blame_the_exporter_if_the_password_check_used_up_the_time() {
        for (asks_late, cause, outcome) in [
            (false, Abort::DeadlineExporter, "deadline_exporter"),
            (true, Abort::DeadlineExporter, "deadline_proxy"),
            (true, Abort::DeadlineScraper, "deadline_scraper"),
        ] {
            let (delivery, exporter) = begun();
            if asks_late {
                delivery.asks_late();
            }
            delivery.cut_off(|_| cause);
            assert_eq!(counted(&exporter), (vec![outcome], 0));
        }
    }

    #[test]
    fn an_answer_is_compressed_if_the_exporters_was_not() {
        use hyper::header::{CONTENT_ENCODING, HeaderValue};

        let encoded = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        for (headers, encoding, expected) in [
            (HeaderMap::new(), Encoding::Zstd, true),
            (HeaderMap::new(), Encoding::Identity, false),
            (encoded, Encoding::Gzip, false),
        ] {
            let (delivery, _exporter) = begun();
            assert!(!delivery.is_compressed(), "no answer yet");
            delivery.first_byte(StatusCode::OK, &headers, encoding);
            assert_eq!(delivery.is_compressed(), expected, "{encoding:?}");
        }
    }

    #[test]
    fn received_bytes_and_dropped_families_are_counted() {
        let (delivery, exporter) = begun();
        delivery.received(7);
        delivery.filters(Arc::new(AtomicU64::new(3)));
        delivery.abort(Abort::Shutdown);
        let snapshot = exporter.state.ledger.snapshot();
        assert_eq!((snapshot.received, snapshot.families_dropped), (7, 3));
    }

    #[test]
    fn logged_seconds_are_rounded_to_a_tenth_of_a_millisecond() {
        for (micros, expected) in [(53, 0.0001), (49, 0.0), (2_345_678, 2.3457)] {
            let logged = seconds(Duration::from_micros(micros));
            assert_eq!(logged.to_string(), expected.to_string());
        }
    }

    #[test]
    fn a_scrape_is_counted_once_however_it_ends() {
        let (delivery, exporter) = begun();
        assert_eq!(counted(&exporter), (vec![], 1));
        delivery.abort(Abort::TooLarge);
        delivery.complete();
        delivery.cut_off(|_| Abort::Shutdown);
        drop(delivery);
        assert_eq!(counted(&exporter), (vec!["too_large"], 0));
    }

    #[test]
    fn a_scrape_that_nobody_ends_is_counted_when_its_delivery_is_dropped() {
        let (delivery, exporter) = begun();
        drop(delivery);
        assert_eq!(counted(&exporter), (vec!["scraper_gone"], 0));
    }
}
