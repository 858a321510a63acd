//! The accounting of one scrape. It begins with the request and finishes exactly once.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::{
    exporters::{ActiveExporter, ScrapePermit},
    ledger::{self, Phase, PhaseDurations, ScrapeRecord},
};
use crate::common::{
    error::{Abort, Blame, Chain, Refusal},
    peer::Peer,
};

/// How a scrape ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last byte of a complete message was handed to the scraper's socket.
    Complete,
    /// The message was complete, but Prometheus does not accept it as metrics.
    Unusable(Unusable),
    /// A response of the proxy itself was sent instead of the exporter's: its status, its label,
    /// and who is to blame.
    Refused(StatusCode, &'static str, Blame),
    /// The response ended after the head and before its end.
    Aborted(Abort),
}

impl Outcome {
    /// The value of the `outcome` field of logs and of the `outcome` label of metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Complete => ledger::COMPLETE,
            Self::Unusable(Unusable::Status) => ledger::EXPORTER_STATUS,
            Self::Unusable(Unusable::ContentType) => ledger::NOT_METRICS,
            Self::Refused(_, label, _) => label,
            Self::Aborted(abort) => abort.info().label,
        }
    }
}

impl Outcome {
    /// Who is to blame for a failure; `None` if the scrape succeeded.
    #[must_use]
    pub fn blame(self) -> Option<Blame> {
        match self {
            Self::Complete => None,
            Self::Unusable(_) => Some(Blame::Upstream),
            Self::Refused(_, _, blame) => Some(blame),
            Self::Aborted(abort) => Some(abort.info().blame),
        }
    }
}

/// Why Prometheus sets `up` to 0 although the answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The status is not 200. Prometheus refuses other 2xx statuses too (`scrape.go`).
    Status,
    /// Prometheus 3 refuses the media type (`textparse.New`). Prometheus 2 reads the body as text,
    /// and fails anyway with HTML and JSON.
    ContentType,
}

impl Unusable {
    /// What makes an answer with this head unusable, and the text for the log. An answer without
    /// `Content-Type` is accepted: Prometheus 2 reads it as text, and so does Prometheus 3 with
    /// `fallback_scrape_protocol`.
    fn of(status: StatusCode, headers: &HeaderMap) -> Option<(Self, String)> {
        const MEDIA_TYPES: [&[u8]; 3] =
            [b"text/plain", b"application/openmetrics-text", b"application/vnd.google.protobuf"];
        if status != StatusCode::OK {
            let cause =
                format!("exporter answered {}, Prometheus accepts only 200", status.as_u16());
            return Some((Self::Status, cause));
        }
        // Prometheus uses the first value.
        let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)?;
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        if value.trim_ascii().is_empty()
            || MEDIA_TYPES.iter().any(|metrics| essence.eq_ignore_ascii_case(metrics))
        {
            return None;
        }
        let shown = essence[..essence.len().min(LONGEST_SHOWN)].escape_ascii();
        Some((
            Self::ContentType,
            format!("exporter's Content-Type `{shown}` is not a metrics format"),
        ))
    }
}

/// Limit for the bytes of a `Content-Type` in the log.
const LONGEST_SHOWN: usize = 80;

/// Splits the duration of a scrape into its phases.
#[derive(Debug)]
pub struct PhaseTimer {
    spent: PhaseDurations,
    /// The current phase; `None` before the proxy connects to the exporter.
    waiting: Option<Phase>,
    since: Instant,
}

impl PhaseTimer {
    fn start(now: Instant) -> Self {
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

    fn spent_on(&self, phases: &[Phase]) -> Duration {
        phases.iter().filter_map(|&phase| self.spent.of(phase)).sum()
    }
}

/// Tells why a scrape was aborted if it is dropped unfinished. Implemented by the connection of the
/// scraper.
pub trait AbortCause: fmt::Debug + Send + Sync {
    /// The cause of the abort, given the phase in which the scrape was dropped.
    fn abort_cause(&self, waiting_for: Option<Phase>) -> Abort;
}

/// One scrape, from the arrival of its request to its outcome.
///
/// Every scrape is counted and logged exactly once. A scrape that is dropped unfinished counts as
/// aborted, for example when the scraper's connection ends and the handler or the body is dropped.
pub struct Scrape {
    exporter: Arc<ActiveExporter>,
    peer: Arc<Peer>,
    permit: Option<ScrapePermit>,
    /// Weak, because the connection owns the scrape whose last bytes it delivers.
    connection: Weak<dyn AbortCause>,
    begun: Instant,
    status: Option<StatusCode>,
    connected: Option<Duration>,
    first_byte: Option<Duration>,
    bytes: u64,
    length_ignored: bool,
    asks_late: bool,
    /// Why Prometheus does not accept the answer, and the text for the log.
    unusable: Option<(Unusable, String)>,
    finished: bool,
    /// Measures the phases.
    pub clock: PhaseTimer,
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
    /// Starts the accounting. `begun` is the arrival of the request, which also starts the clock of
    /// the deadline. A `permit` is released when the scrape ends, or earlier by
    /// [`Scrape::exporter_is_done`].
    #[must_use]
    pub fn begin(
        exporter: Arc<ActiveExporter>,
        peer: Arc<Peer>,
        permit: Option<ScrapePermit>,
        begun: Instant,
        connection: Weak<dyn AbortCause>,
    ) -> Self {
        exporter.state.ledger.begin(begun);
        Self {
            exporter,
            peer,
            permit,
            connection,
            begun,
            status: None,
            connected: None,
            first_byte: None,
            bytes: 0,
            length_ignored: false,
            asks_late: false,
            unusable: None,
            finished: false,
            clock: PhaseTimer::start(begun),
        }
    }

    /// Notes that the exporter is asked so late that it is not to blame if the deadline passes.
    pub fn asks_late(&mut self) {
        self.asks_late = true;
    }

    /// The proxy starts to connect to the exporter.
    pub fn connecting(&mut self) {
        self.clock.resume();
        self.clock.wait_for(Phase::Connect);
    }

    /// The connection to the exporter is established.
    pub fn connected(&mut self) {
        self.connected = Some(self.begun.elapsed());
        self.clock.resume();
        self.clock.wait_for(Phase::FirstByte);
    }

    /// The response head and the first bytes of the body have arrived.
    pub fn first_byte(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.unusable = Unusable::of(status, headers);
        self.first_byte = Some(self.begun.elapsed());
        self.clock.resume();
        // A body that has already arrived completely reaches this phase too, with a wait of zero.
        self.clock.spent.add(Phase::ReadWait, Duration::ZERO);
        self.clock.wait_for(Phase::WriteWait);
    }

    /// Notes that the exporter sent a `Content-Length` that was ignored. Such an exporter is broken
    /// or hostile.
    pub fn length_ignored(&mut self) {
        self.length_ignored = true;
    }

    /// Adds relayed bytes of the body.
    pub fn add_bytes(&mut self, count: u64) {
        self.bytes += count;
    }

    /// Releases the exporter's permit before the end of the scrape, because the exporter has
    /// delivered everything.
    ///
    /// This must not happen later. A scraper that has the last byte may send its next request on
    /// another connection, and the proxy may handle that request before this task continues.
    pub fn exporter_is_done(&mut self) {
        self.permit = None;
    }

    /// Ends the scrape with a response of the proxy itself.
    pub fn refuse(self, refusal: &Refusal) {
        let info = refusal.info();
        let outcome = Outcome::Refused(info.status, info.label, info.blame);
        self.close(outcome, Some(refusal));
    }

    /// Ends the scrape with `outcome`.
    pub fn finish(self, outcome: Outcome) {
        self.close(outcome, None);
    }

    fn close(mut self, outcome: Outcome, cause: Option<&dyn std::error::Error>) {
        self.finished = true;
        self.settle(outcome, cause);
    }

    /// A complete answer that Prometheus does not accept is not a success.
    fn judged(&self, outcome: Outcome) -> Outcome {
        match (outcome, &self.unusable) {
            (Outcome::Complete, Some((unusable, _))) => Outcome::Unusable(*unusable),
            (outcome, _) => outcome,
        }
    }

    /// Releases the permit and counts the scrape before it writes the log record. A reader of the
    /// record can rely on both.
    fn settle(&mut self, outcome: Outcome, cause: Option<&dyn std::error::Error>) {
        let outcome = self.judged(outcome);
        self.clock.resume();
        self.permit = None;
        let took = self.begun.elapsed();
        self.exporter.state.ledger.end(ScrapeRecord {
            outcome: outcome.label(),
            truncated: matches!(outcome, Outcome::Aborted(_)) && self.status.is_some(),
            length_ignored: self.length_ignored,
            success: outcome == Outcome::Complete,
            bytes: self.bytes,
            took,
            phases: self.clock.spent,
            ended: SystemTime::now(),
        });
        self.log(outcome, took, cause);
    }

    fn log(&self, outcome: Outcome, took: Duration, cause: Option<&dyn std::error::Error>) {
        let exporter = self.clock.spent_on(&[Phase::Connect, Phase::FirstByte, Phase::ReadWait]);
        let network = self.clock.spent_on(&[Phase::WriteWait]);
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
                    bytes = self.bytes,
                    seconds = seconds(took),
                    connect_seconds = self.connected.map(seconds),
                    first_byte_seconds = self.first_byte.map(seconds),
                    exporter_seconds = seconds(exporter),
                    network_seconds = seconds(network),
                    content_length = self.length_ignored.then_some("ignored"),
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

impl Drop for Scrape {
    fn drop(&mut self) {
        if !self.finished {
            let waiting_for = self.clock.waiting_for();
            let abort = match self.connection.upgrade() {
                _ if std::thread::panicking() => Abort::Panicked,
                Some(connection) => {
                    let abort = connection.abort_cause(waiting_for);
                    let is_excused = self.asks_late && abort == Abort::DeadlineExporter;
                    if is_excused { Abort::DeadlineProxy } else { abort }
                }
                // The connection ended without a cause, so the scraper closed it.
                None => Abort::ScraperGone,
            };
            self.settle(Outcome::Aborted(abort), None);
        }
    }
}

/// Seconds, rounded to 0.1 ms. Smaller values would be printed as `5.3e-5`.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::num::{NonZeroU16, NonZeroU32};

    use super::*;
    use crate::common::{
        deadline::Budget,
        exporter::{Exporter, ExporterName, ExporterPath, Integrity, ScrapeRules, Target},
    };

    fn rules() -> ScrapeRules {
        let budget = |seconds| Budget::new(Duration::from_secs(seconds)).unwrap();
        ScrapeRules {
            interval: budget(15),
            timeout: budget(5),
            connect_timeout: budget(1),
            max_concurrent: NonZeroU32::MIN,
            max_body: None,
            forward_params: true,
            integrity: Integrity::Strict,
        }
    }

    #[derive(Debug)]
    struct EndsWith(Abort);

    impl AbortCause for EndsWith {
        fn abort_cause(&self, _: Option<Phase>) -> Abort {
            self.0
        }
    }

    #[test]
    fn f05_a_late_body_does_not_blame_the_exporter_if_the_password_check_used_up_the_time() {
        for (asks_late, cause, outcome) in [
            (false, Abort::DeadlineExporter, "deadline_exporter"),
            (true, Abort::DeadlineExporter, "deadline_proxy"),
            (true, Abort::DeadlineScraper, "deadline_scraper"),
        ] {
            let target = Target::Tcp { host: "localhost".to_owned(), port: NonZeroU16::MIN };
            let name = ExporterName::new("x").unwrap();
            let path = ExporterPath::new("/metrics").unwrap();
            let rules = rules();
            let exporter = Exporter { name, target, tls: None, path, authorization: None, rules };
            let exporter = Arc::new(ActiveExporter::from(exporter));
            let address = ([127, 0, 0, 1], 1).into();
            let peer = Arc::new(Peer { address, identity: None });
            let connection: Arc<dyn AbortCause> = Arc::new(EndsWith(cause));
            let mut scrape = Scrape::begin(
                Arc::clone(&exporter),
                peer,
                None,
                Instant::now(),
                Arc::downgrade(&connection),
            );
            if asks_late {
                scrape.asks_late();
            }
            drop(scrape);
            let outcomes = exporter.state.ledger.figures().outcomes;
            assert_eq!(outcomes.get(outcome), Some(&1), "{outcomes:?}");
        }
    }
}
