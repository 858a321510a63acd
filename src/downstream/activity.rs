//! What a connection is doing. The stream below hyper, the handler and body above it, and the
//! future that drives both share this state. All of them run in one task, so the lock is never
//! contended.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    common::{
        deadline::Deadline,
        error::{Abort, ConnectionAfter},
    },
    http::{answers::Page, control::ConnectionControl},
    scrape::{
        delivery::{Delivery, DeliveryControl},
        phase::Phase,
    },
};

/// The durations of a connection's timers. All come from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// `header-timeout`: the longest time for a request head. The clock starts at the first byte of
    /// the head, or at the end of the handshake for the first head, and stops at the last byte.
    pub header: Duration,
    /// `idle-timeout`: the longest time from the end of a response to the first byte of the next
    /// request.
    pub idle: Duration,
    /// `stall-timeout`: the longest time in which the socket accepts no byte of a response. Also
    /// the longest time for a whole response of the proxy itself.
    pub stall: Duration,
}

/// Why [`connection::drive`](crate::downstream::connection::drive) ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The request head was not complete within `header-timeout`.
    Header,
    /// No request began within `idle-timeout`.
    Idle,
    /// The socket accepted no byte for `stall-timeout`.
    Stall,
    /// The deadline of the scrape passed.
    Deadline,
    /// The scraper closed the connection during a scrape.
    Left,
    /// The shutdown ended before the connection did.
    Shutdown,
    /// hyper gave up the connection before all bytes of a response were sent.
    Unflushed,
}

/// The state of one connection, shared within its task: its phase, its timers, and what has to
/// happen when it ends. See the [module](self).
#[derive(Debug)]
pub struct Activity {
    timeouts: Timeouts,
    state: Mutex<State>,
    /// The current scrape. There is only one: hyper starts a pipelined request only after the flush.
    delivery: Delivery,
}

#[derive(Debug)]
struct State {
    phase: Stage,
    /// The time since which the socket has accepted no byte.
    blocked_since: Option<Instant>,
    /// When the scraper was seen to have closed the connection during a scrape.
    left: Option<Instant>,
    /// The TLS buffer has bytes that the socket did not accept.
    backlog: bool,
    /// The last three bytes read. They tell whether a request head ended there.
    last_read: [u8; 3],
    /// A response with `Connection: close` went to a client that may still be sending.
    refused_early: bool,
    /// The page of the proxy itself that is on its way to the socket.
    page: Option<Page>,
    ended: Option<Ending>,
    reset_on_close: bool,
    /// The client is no longer authorized.
    dismissed: bool,
    /// How the client violated the TLS protocol.
    broken_tls: Option<rustls::Error>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// A request head is awaited or incomplete.
    Head { since: Instant },
    /// No request is in progress.
    Idle { since: Instant },
    /// The handler runs. It enforces the deadline itself, because it can still answer 504.
    Handling,
    /// A response of the proxy itself is being sent. It is one short write, so the timer covers the
    /// whole response: a client that reads byte by byte gets no more time than one that does not
    /// read.
    Responding { since: Instant },
    /// The response to a scrape is being sent.
    Relaying { deadline: Deadline },
}

impl Activity {
    /// Starts in the state after the handshake. The `header-timeout` of the first request starts
    /// now.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            state: Mutex::new(State {
                phase: Stage::Head { since: Instant::now() },
                blocked_since: None,
                left: None,
                backlog: false,
                last_read: [0; 3],
                refused_early: false,
                page: None,
                ended: None,
                reset_on_close: false,
                dismissed: false,
                broken_tls: None,
            }),
            delivery: Delivery::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client is no longer authorized. The connection must not answer further requests.
    pub fn dismiss(&self) {
        self.state().dismissed = true;
    }

    // Reported by the stream.

    /// hyper has read these bytes. They belong to a request head, because a response to a request
    /// with a body is the last one of its connection.
    pub fn bytes_read(&self, bytes: &[u8]) {
        let mut state = self.state();
        for &byte in bytes.iter().rev().take(3).rev() {
            state.last_read.rotate_left(1);
            state.last_read[2] = byte;
        }
        if let Stage::Idle { .. } = state.phase {
            state.phase = Stage::Head { since: Instant::now() };
        }
    }

    /// Whether a request is with the handler, or an exporter's answer is being sent.
    #[must_use]
    pub fn is_scraping(&self) -> bool {
        matches!(self.state().phase, Stage::Handling | Stage::Relaying { .. })
    }

    /// The scraper's side of the stream ended or failed while a response was in progress.
    pub fn scraper_left(&self) {
        self.state().left.get_or_insert_with(Instant::now);
    }

    /// Reading from the client failed. A TLS violation counts only outside of a scrape: a scrape
    /// that ends by it has its own log record.
    pub fn read_failed(&self, error: &io::Error) {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            // The client announced that it leaves.
            None | Some(rustls::Error::AlertReceived(_)) => {}
            Some(broken) if !self.is_scraping() => self.state().broken_tls = Some(broken.clone()),
            Some(_) => {}
        }
    }

    /// The TLS buffer has bytes that the socket did not accept.
    pub fn write_blocked(&self) {
        self.state().backlog = true;
    }

    /// The socket has accepted all bytes from hyper and TLS. A complete response is now delivered.
    pub fn flushed(&self) {
        let mut state = self.state();
        state.backlog = false;
        match state.phase {
            Stage::Relaying { .. } if !self.delivery.is_whole() => return,
            Stage::Relaying { .. } => {}
            Stage::Responding { .. } => state.page = None,
            Stage::Head { .. } | Stage::Idle { .. } | Stage::Handling => return,
        }
        let since = Instant::now();
        // Pipelined requests may follow the one that was answered. If they are complete, hyper
        // starts the next one without reading. If the last bytes read do not end a head, they start
        // the next head.
        state.phase = if ends_a_head(state.last_read) {
            Stage::Idle { since }
        } else {
            Stage::Head { since }
        };
        drop(state);
        self.delivery.complete();
    }

    /// The socket accepted at least one byte.
    pub fn socket_took_bytes(&self) {
        self.state().blocked_since = None;
    }

    /// The socket accepted no byte. The `stall-timeout` runs from the first such report after a
    /// successful write.
    pub fn socket_took_nothing(&self) {
        self.state().blocked_since.get_or_insert_with(Instant::now);
    }

    /// Whether the socket must be reset instead of closed: [`Activity::reset_on_close`] was called,
    /// or the connection ended during a response.
    pub fn resets_on_close(&self) -> bool {
        self.state().reset_on_close
    }

    // Asked by the driver.

    /// The timer that expires next, and why the connection ends then.
    pub fn next_clock(&self) -> Option<(Instant, Ending)> {
        let state = self.state();
        let phase = match state.phase {
            Stage::Head { since } => Some((since + self.timeouts.header, Ending::Header)),
            Stage::Idle { since } => Some((since + self.timeouts.idle, Ending::Idle)),
            Stage::Handling => None,
            Stage::Responding { since } => Some((since + self.timeouts.stall, Ending::Stall)),
            Stage::Relaying { deadline } => Some((deadline.instant(), Ending::Deadline)),
        };
        let stall = state.blocked_since.map(|since| (since + self.timeouts.stall, Ending::Stall));
        let left = state.left.map(|at| (at, Ending::Left));
        [phase, stall, left].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The timer that has expired at `now`, if one has.
    pub fn expired(&self, now: Instant) -> Option<Ending> {
        self.next_clock().filter(|(at, _)| *at <= now).map(|(_, ending)| ending)
    }

    /// How the client violated the TLS protocol between two scrapes, if it did.
    pub fn broken_tls(&self) -> Option<rustls::Error> {
        self.state().broken_tls.clone()
    }

    /// Whether the socket has not accepted all bytes of a response yet.
    pub fn owes_bytes(&self) -> bool {
        matches!(self.state().phase, Stage::Responding { .. } | Stage::Relaying { .. })
    }

    /// Whether a response with `Connection: close` went to a client that may still be sending.
    pub fn refused_early(&self) -> bool {
        self.state().refused_early
    }

    /// The driver gives up the connection. A response in progress is aborted.
    pub fn end(&self, ending: Ending) {
        let mut state = self.state();
        state.ended = Some(ending);
        state.reset_on_close |=
            matches!(state.phase, Stage::Relaying { .. } | Stage::Responding { .. });
    }

    /// The connection has ended, and its handler and its body are gone. A scrape in progress is
    /// aborted, and the cause is the [`Ending`].
    pub fn closed(&self) {
        let ended = self.state().ended;
        self.delivery.cut_off(|waiting_for| abort_cause(ended, waiting_for));
    }
}

/// Why a scrape was aborted that was in this phase when its connection ended.
fn abort_cause(ended: Option<Ending>, waiting_for: Option<Phase>) -> Abort {
    match ended {
        Some(Ending::Deadline) => match waiting_for {
            None | Some(Phase::Connect | Phase::FirstByte | Phase::ReadWait) => {
                Abort::DeadlineExporter
            }
            Some(Phase::WriteWait) => Abort::DeadlineScraper,
        },
        Some(Ending::Stall) => Abort::ScraperStalled,
        Some(Ending::Shutdown) => Abort::Shutdown,
        Some(Ending::Header | Ending::Idle | Ending::Left | Ending::Unflushed) | None => {
            Abort::ScraperGone
        }
    }
}

impl DeliveryControl for Activity {
    fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    fn has_backlog(&self) -> bool {
        self.state().backlog
    }

    fn reset_on_close(&self) {
        self.state().reset_on_close = true;
    }
}

impl ConnectionControl for Activity {
    fn request_arrived(&self) {
        self.state().phase = Stage::Handling;
    }

    fn responding(&self, after: ConnectionAfter) {
        let mut state = self.state();
        state.phase = Stage::Responding { since: Instant::now() };
        state.refused_early |= after == ConnectionAfter::Close;
    }

    fn holds(&self, page: Page) {
        self.state().page = Some(page);
    }

    fn relaying(&self, deadline: Deadline) {
        self.state().phase = Stage::Relaying { deadline };
    }

    fn is_dismissed(&self) -> bool {
        self.state().dismissed
    }
}

/// Whether these bytes end with an empty line, with or without CR.
fn ends_a_head(last_read: [u8; 3]) -> bool {
    matches!(last_read, [b'\n', b'\r', b'\n'] | [_, b'\n', b'\n'])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::advance;

    use super::*;
    use crate::common::deadline::Budget;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn activity() -> Activity {
        Activity::new(Timeouts { header: secs(1), idle: secs(2), stall: secs(3) })
    }

    fn relaying(activity: &Activity) {
        activity.request_arrived();
        activity.relaying(Deadline::after(Instant::now(), Budget::new(secs(5)).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_tls_violation_outside_of_a_scrape_counts_and_no_alert_or_reset() {
        let failed = |inner: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, inner);
        let after = |activity: &Activity, error: &io::Error| {
            activity.read_failed(error);
            activity.broken_tls()
        };
        let left = rustls::Error::AlertReceived(rustls::AlertDescription::UserCanceled);
        let reset = io::ErrorKind::ConnectionReset.into();
        let activity = activity();
        assert_eq!(after(&activity, &failed(left)), None);
        assert_eq!(after(&activity, &reset), None);
        relaying(&activity);
        assert_eq!(after(&activity, &failed(rustls::Error::DecryptError)), None);
        activity.responding(ConnectionAfter::Keep);
        let broken = rustls::Error::DecryptError;
        assert_eq!(after(&activity, &failed(broken.clone())), Some(broken.clone()));
        assert_eq!(after(&activity, &reset), Some(broken));
    }

    /// The timer that expires next, and in how many seconds.
    fn clock(activity: &Activity) -> Option<(u64, Ending)> {
        activity.next_clock().map(|(at, ending)| ((at - Instant::now()).as_secs(), ending))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_timer_and_is_visible_outside() {
        let activity = activity();
        let look = || (clock(&activity), activity.is_scraping(), activity.owes_bytes());
        assert_eq!(look(), (Some((1, Ending::Header)), false, false));
        activity.request_arrived();
        activity.flushed();
        assert_eq!(look(), (None, true, false));
        activity.responding(ConnectionAfter::Keep);
        assert_eq!(look(), (Some((3, Ending::Stall)), false, true));
        assert!(!activity.refused_early());
        activity.responding(ConnectionAfter::Close);
        activity.responding(ConnectionAfter::Keep);
        assert!(activity.refused_early());
        relaying(&activity);
        // Not complete: no scrape was delivered.
        activity.flushed();
        assert_eq!(look(), (Some((5, Ending::Deadline)), true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_stall_timer_runs_from_the_first_blocked_write_and_the_earliest_timer_wins() {
        let activity = activity();
        relaying(&activity);
        activity.socket_took_nothing();
        advance(secs(1)).await;
        activity.socket_took_nothing();
        assert_eq!(clock(&activity), Some((2, Ending::Stall)));
        activity.socket_took_bytes();
        assert_eq!(clock(&activity), Some((4, Ending::Deadline)));
        let due = Instant::now() + secs(4);
        assert_eq!(activity.expired(due - Duration::from_nanos(1)), None);
        assert_eq!(activity.expired(due), Some(Ending::Deadline));
        activity.scraper_left();
        let left = Instant::now();
        advance(secs(1)).await;
        activity.scraper_left();
        assert_eq!(activity.next_clock(), Some((left, Ending::Left)));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_after_an_answered_request_start_the_next_head() {
        for (read, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", (2, Ending::Idle)),
            ("GET / HTTP/1.1\nHost: h\n\n", (2, Ending::Idle)),
            ("GET / HTTP/1.1\r\n\r\nG", (1, Ending::Header)),
            ("GET / HTTP/1.1\r\n\r\nG\r\n", (1, Ending::Header)),
        ] {
            for split in [1, 2, 3, 100] {
                let activity = activity();
                for piece in read.as_bytes().chunks(split) {
                    activity.bytes_read(piece);
                }
                activity.request_arrived();
                activity.responding(ConnectionAfter::Keep);
                activity.write_blocked();
                assert!(activity.has_backlog());
                activity.flushed();
                assert!(!activity.has_backlog());
                assert_eq!(clock(&activity), Some(expected), "{read:?} by {split}");
                advance(Duration::from_millis(500)).await;
                activity.bytes_read(b"G");
                let begun = if expected.1 == Ending::Idle { 1000 } else { 500 };
                let due = Instant::now() + Duration::from_millis(begun);
                assert_eq!(activity.next_clock(), Some((due, Ending::Header)), "{read:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_response_has_the_cause_of_its_end() {
        for (ending, waiting_for, cause) in [
            (Ending::Deadline, None, Abort::DeadlineExporter),
            (Ending::Deadline, Some(Phase::Connect), Abort::DeadlineExporter),
            (Ending::Deadline, Some(Phase::ReadWait), Abort::DeadlineExporter),
            (Ending::Deadline, Some(Phase::WriteWait), Abort::DeadlineScraper),
            (Ending::Stall, Some(Phase::ReadWait), Abort::ScraperStalled),
            (Ending::Shutdown, Some(Phase::WriteWait), Abort::Shutdown),
            (Ending::Left, None, Abort::ScraperGone),
        ] {
            let activity = activity();
            assert_eq!(abort_cause(None, waiting_for), Abort::ScraperGone);
            relaying(&activity);
            activity.end(ending);
            assert_eq!(
                abort_cause(Some(ending), waiting_for),
                cause,
                "{ending:?}, {waiting_for:?}"
            );
            assert!(activity.resets_on_close());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_reset_during_a_response_and_closed_between_two() {
        let idle = activity();
        idle.end(Ending::Idle);
        assert!(!idle.resets_on_close());
        let responding = activity();
        responding.responding(ConnectionAfter::Keep);
        responding.end(Ending::Stall);
        assert!(responding.resets_on_close());
        let aborted = activity();
        aborted.reset_on_close();
        aborted.end(Ending::Idle);
        assert!(aborted.resets_on_close());
    }
}
