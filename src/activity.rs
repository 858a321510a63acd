//! What a connection is doing, shared by the stream below hyper, the handler and body above it,
//! and the future that drives both. They all run in one task; the lock is never contended.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    answers::Page,
    deadline::Deadline,
    error::Abort,
    ledger::Wait,
    scrape::{AbortCause, Outcome, Scrape},
};

/// The lengths of a connection's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// A request's head, from its first byte to its last.
    pub header: Duration,
    /// From one response to the next request.
    pub idle: Duration,
    /// A write of which the socket takes no byte; also a synthetic response in all.
    pub stall: Duration,
}

/// Why the driver ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No complete head within `header-timeout`.
    Header,
    /// No request within `idle-timeout`.
    Idle,
    /// The socket took no byte for `stall-timeout`.
    Stall,
    /// The scrape's deadline.
    Deadline,
    /// The scraper closed the connection on a scrape.
    Left,
    /// The drain is over.
    Shutdown,
    /// hyper has let go of it with bytes of a response left.
    Unflushed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Activity {
    timeouts: Timeouts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when the socket takes nothing.
    blocked_since: Option<Instant>,
    /// When the scraper was seen to have closed the connection on a scrape.
    left: Option<Instant>,
    /// The TLS buffer holds bytes that the socket did not take.
    backlog: bool,
    /// The last bytes read, which say whether a head ended with them.
    last_read: [u8; 3],
    /// A response said `Connection: close` to a client that may not have sent everything.
    refused_early: bool,
    /// A scrape whose last bytes are on their way to the socket. One at a time: hyper goes on to a
    /// pipelined request only after the flush.
    delivering: Option<Scrape>,
    /// An answer of our own that is on its way to the socket.
    page: Option<Page>,
    ended: Option<Ending>,
    reset_on_close: bool,
    /// The client is no longer welcome.
    dismissed: bool,
    /// The rule of TLS that the client broke.
    broken_tls: Option<rustls::Error>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A head is awaited or incomplete.
    Head { since: Instant },
    /// Between two requests.
    Idle { since: Instant },
    /// The handler runs; it keeps the deadline itself, because it can still answer 504.
    Handling,
    /// A synthetic response is on its way. It is one short write, so that a client that takes it
    /// byte by byte gets no longer than one that takes none.
    Responding { since: Instant },
    /// A scrape's response is on its way.
    Relaying { deadline: Deadline },
}

impl Activity {
    /// A connection whose handshake is over: the clock of its first head starts now.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            state: Mutex::new(State {
                phase: Phase::Head { since: Instant::now() },
                blocked_since: None,
                left: None,
                backlog: false,
                last_read: [0; 3],
                refused_early: false,
                delivering: None,
                page: None,
                ended: None,
                reset_on_close: false,
                dismissed: false,
                broken_tls: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the handler and the body report.

    /// A head is complete.
    pub fn request_arrived(&self) {
        let mut state = self.state();
        state.phase = Phase::Handling;
    }

    /// The handler has answered by itself; `closes` when it said `Connection: close`.
    pub fn responding(&self, closes: bool) {
        let mut state = self.state();
        state.phase = Phase::Responding { since: Instant::now() };
        state.refused_early |= closes;
    }

    /// An answer of our own counts until the socket has all of it, or the connection has ended.
    pub fn holds(&self, page: Page) {
        self.state().page = Some(page);
    }

    /// The handler has passed an exporter's answer on: from now on the driver keeps its deadline.
    pub fn relaying(&self, deadline: Deadline) {
        self.state().phase = Phase::Relaying { deadline };
    }

    /// A complete message is in hyper's hands: the scrape is over with the next flush.
    pub fn deliver(&self, scrape: Scrape) {
        self.state().delivering = Some(scrape);
    }

    /// The response in progress was aborted: the socket is to be reset, so that no client takes
    /// the end of the connection for the end of the message.
    pub fn reset_on_close(&self) {
        self.state().reset_on_close = true;
    }

    /// Whether the TLS buffer holds bytes that the socket did not take. While it does, a write
    /// wake-up is registered for this task.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.state().backlog
    }

    /// The client is no longer welcome: no further request of this connection is to be answered.
    pub fn dismiss(&self) {
        self.state().dismissed = true;
    }

    /// See [`Activity::dismiss`].
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.state().dismissed
    }

    // What the stream reports.

    /// hyper got these bytes: of a head, as the response to a request with a body is the last one.
    pub fn bytes_read(&self, bytes: &[u8]) {
        let mut state = self.state();
        for &byte in bytes.iter().rev().take(3).rev() {
            state.last_read.rotate_left(1);
            state.last_read[2] = byte;
        }
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Head { since: Instant::now() };
        }
    }

    /// Whether an exporter is being asked, or its answer is on its way.
    #[must_use]
    pub fn is_scraping(&self) -> bool {
        matches!(self.state().phase, Phase::Handling | Phase::Relaying { .. })
    }

    /// The scraper's side of the stream has ended, or failed, while it is being answered.
    pub fn scraper_left(&self) {
        self.state().left.get_or_insert_with(Instant::now);
    }

    /// Reading from the client failed. Whoever breaks TLS while an exporter is being asked has left
    /// a scrape, which has its own record.
    pub fn read_failed(&self, error: &io::Error) {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            // The client has said that it leaves.
            None | Some(rustls::Error::AlertReceived(_)) => {}
            Some(broken) if !self.is_scraping() => self.state().broken_tls = Some(broken.clone()),
            Some(_) => {}
        }
    }

    /// Bytes are left in the TLS buffer.
    pub fn write_blocked(&self) {
        self.state().backlog = true;
    }

    /// All that hyper and TLS had is with the socket: a complete response is delivered now.
    pub fn flushed(&self) {
        let mut state = self.state();
        state.backlog = false;
        let delivered = match state.phase {
            Phase::Relaying { .. } if state.delivering.is_none() => return,
            Phase::Relaying { .. } => state.delivering.take(),
            Phase::Responding { .. } => {
                state.page = None;
                None
            }
            Phase::Head { .. } | Phase::Idle { .. } | Phase::Handling => return,
        };
        let since = Instant::now();
        // Pipelined requests may wait behind the one that was answered. As far as they are whole,
        // hyper goes on to the next by itself; what is not the end of a head is one's start.
        state.phase = if ends_a_head(state.last_read) {
            Phase::Idle { since }
        } else {
            Phase::Head { since }
        };
        drop(state);
        if let Some(scrape) = delivered {
            scrape.finish(Outcome::Complete);
        }
    }

    /// The socket took at least one byte.
    pub fn socket_took_bytes(&self) {
        self.state().blocked_since = None;
    }

    /// The socket took no byte: the clock of a stalled write runs from the first time on.
    pub fn socket_took_nothing(&self) {
        self.state().blocked_since.get_or_insert_with(Instant::now);
    }

    /// See [`Activity::reset_on_close`].
    pub fn resets_on_close(&self) -> bool {
        self.state().reset_on_close
    }

    // What the driver asks.

    /// The clock that runs out first.
    pub fn next_clock(&self) -> Option<(Instant, Ending)> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Head { since } => Some((since + self.timeouts.header, Ending::Header)),
            Phase::Idle { since } => Some((since + self.timeouts.idle, Ending::Idle)),
            Phase::Handling => None,
            Phase::Responding { since } => Some((since + self.timeouts.stall, Ending::Stall)),
            Phase::Relaying { deadline } => Some((deadline.instant(), Ending::Deadline)),
        };
        let stall = state.blocked_since.map(|since| (since + self.timeouts.stall, Ending::Stall));
        let left = state.left.map(|at| (at, Ending::Left));
        [phase, stall, left].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The clock that has run out at `now`.
    pub fn expired(&self, now: Instant) -> Option<Ending> {
        self.next_clock().filter(|(at, _)| *at <= now).map(|(_, ending)| ending)
    }

    /// The rule of TLS that the client broke between two scrapes, if it did.
    pub fn broken_tls(&self) -> Option<rustls::Error> {
        self.state().broken_tls.clone()
    }

    /// Whether bytes of a response are not with the socket yet.
    pub fn owes_bytes(&self) -> bool {
        matches!(self.state().phase, Phase::Responding { .. } | Phase::Relaying { .. })
    }

    /// Whether a response said `Connection: close` to a client that may still be sending.
    pub fn refused_early(&self) -> bool {
        self.state().refused_early
    }

    /// The driver gives the connection up; a response in progress is aborted.
    pub fn end(&self, ending: Ending) {
        let mut state = self.state();
        state.ended = Some(ending);
        state.reset_on_close |=
            matches!(state.phase, Phase::Relaying { .. } | Phase::Responding { .. });
        let undelivered = state.delivering.take();
        drop(state);
        // Asks why, and is told by what was set above.
        drop(undelivered);
    }
}

impl AbortCause for Activity {
    fn abort_cause(&self, waiting_for: Option<Wait>) -> Abort {
        match self.state().ended {
            Some(Ending::Deadline) => match waiting_for {
                None | Some(Wait::Connect | Wait::FirstByte | Wait::ReadWait) => {
                    Abort::DeadlineExporter
                }
                Some(Wait::WriteWait) => Abort::DeadlineScraper,
            },
            Some(Ending::Stall) => Abort::ScraperStalled,
            Some(Ending::Shutdown) => Abort::Shutdown,
            Some(Ending::Header | Ending::Idle | Ending::Left | Ending::Unflushed) | None => {
                Abort::ScraperGone
            }
        }
    }
}

/// Whether these are the last bytes of an empty line, with or without CR.
fn ends_a_head(last_read: [u8; 3]) -> bool {
    matches!(last_read, [b'\n', b'\r', b'\n'] | [_, b'\n', b'\n'])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::advance;

    use super::*;
    use crate::deadline::Budget;

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
    async fn tls_is_broken_by_whoever_breaks_it_and_neither_leaves_nor_is_being_answered() {
        let failed = |inner: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, inner);
        let told = |activity: &Activity, error: &io::Error| {
            activity.read_failed(error);
            activity.broken_tls()
        };
        let left = rustls::Error::AlertReceived(rustls::AlertDescription::UserCanceled);
        let reset = io::ErrorKind::ConnectionReset.into();
        let activity = activity();
        assert_eq!(told(&activity, &failed(left)), None);
        assert_eq!(told(&activity, &reset), None);
        relaying(&activity);
        assert_eq!(told(&activity, &failed(rustls::Error::DecryptError)), None);
        activity.responding(false);
        let broken = rustls::Error::DecryptError;
        assert_eq!(told(&activity, &failed(broken.clone())), Some(broken.clone()));
        assert_eq!(told(&activity, &reset), Some(broken));
    }

    /// The clock that runs out first, and in how many seconds.
    fn clock(activity: &Activity) -> Option<(u64, Ending)> {
        activity.next_clock().map(|(at, ending)| ((at - Instant::now()).as_secs(), ending))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_clock_and_is_known_from_outside() {
        let activity = activity();
        let look = || (clock(&activity), activity.is_scraping(), activity.owes_bytes());
        assert_eq!(look(), (Some((1, Ending::Header)), false, false));
        activity.request_arrived();
        activity.flushed();
        assert_eq!(look(), (None, true, false));
        activity.responding(false);
        assert_eq!(look(), (Some((3, Ending::Stall)), false, true));
        assert!(!activity.refused_early());
        activity.responding(true);
        activity.responding(false);
        assert!(activity.refused_early());
        relaying(&activity);
        // Not over: no scrape was handed over.
        activity.flushed();
        assert_eq!(look(), (Some((5, Ending::Deadline)), true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_that_runs_out_first_counts_from_the_first_time_on() {
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
    async fn what_was_read_behind_an_answered_request_is_the_start_of_the_next() {
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
                activity.responding(false);
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
    async fn an_answer_that_is_given_up_is_aborted_for_the_reason_of_its_end() {
        for (ending, waiting_for, cause) in [
            (Ending::Deadline, None, Abort::DeadlineExporter),
            (Ending::Deadline, Some(Wait::Connect), Abort::DeadlineExporter),
            (Ending::Deadline, Some(Wait::ReadWait), Abort::DeadlineExporter),
            (Ending::Deadline, Some(Wait::WriteWait), Abort::DeadlineScraper),
            (Ending::Stall, Some(Wait::ReadWait), Abort::ScraperStalled),
            (Ending::Shutdown, Some(Wait::WriteWait), Abort::Shutdown),
            (Ending::Left, None, Abort::ScraperGone),
        ] {
            let activity = activity();
            assert_eq!(activity.abort_cause(waiting_for), Abort::ScraperGone);
            relaying(&activity);
            activity.end(ending);
            assert_eq!(activity.abort_cause(waiting_for), cause, "{ending:?}, {waiting_for:?}");
            assert!(activity.resets_on_close());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_reset_in_an_answer_and_closed_between_two() {
        let idle = activity();
        idle.end(Ending::Idle);
        assert!(!idle.resets_on_close());
        let responding = activity();
        responding.responding(false);
        responding.end(Ending::Stall);
        assert!(responding.resets_on_close());
        let aborted = activity();
        aborted.reset_on_close();
        aborted.end(Ending::Idle);
        assert!(aborted.resets_on_close());
    }
}
