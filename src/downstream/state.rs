//! What a connection is doing. The stream below hyper, the handler and body above it, and the
//! future that drives both share this state. All of them run in one task, so the lock is never
//! contended.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::socket::MOST_UNSENT;
use crate::{
    common::{
        deadline::Deadline,
        error::{Abort, ConnectionAfter},
    },
    http::{answers::AnswerPermit, control::ConnectionControl},
    scrape::{
        delivery::{Delivery, DeliveryControl},
        link::Link,
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

/// The state of one connection, shared within its task: what it is doing, its timers, and what has to
/// happen when it ends. See the [module](self).
#[derive(Debug)]
pub struct ConnectionState {
    timeouts: Timeouts,
    inner: Mutex<Inner>,
    /// The current scrape. There is only one: hyper starts a pipelined request only after the flush.
    delivery: Delivery,
}

#[derive(Debug)]
struct Inner {
    activity: Activity,
    /// The time since which the socket has accepted no byte.
    blocked_since: Option<Instant>,
    /// When the scraper was seen to have closed the connection during a scrape.
    left: Option<Instant>,
    /// The TLS buffer has bytes that the socket did not accept.
    backlog: bool,
    /// How many bytes the socket will probably accept at once.
    room: usize,
    /// An answer has begun, and the stream has not learned of it.
    answer_begins: bool,
    /// The last three bytes read. They tell whether a request head ended there.
    last_read: [u8; 3],
    /// A response with `Connection: close` went to a client that may still be sending.
    refused_early: bool,
    /// The permit of the proxy's own answer that is on its way to the socket.
    permit: Option<AnswerPermit>,
    ended: Option<Ending>,
    reset_on_close: bool,
    /// The client is no longer authorized.
    dismissed: bool,
    /// How the client violated the TLS protocol.
    broken_tls: Option<rustls::Error>,
    link: Link,
}

#[derive(Clone, Copy, Debug)]
enum Activity {
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

impl ConnectionState {
    /// Starts in the state after the handshake. The `header-timeout` of the first request starts
    /// now.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            inner: Mutex::new(Inner {
                activity: Activity::Head { since: Instant::now() },
                blocked_since: None,
                left: None,
                backlog: false,
                room: MOST_UNSENT,
                answer_begins: false,
                last_read: [0; 3],
                refused_early: false,
                permit: None,
                ended: None,
                reset_on_close: false,
                dismissed: false,
                broken_tls: None,
                link: Link::default(),
            }),
            delivery: Delivery::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client is no longer authorized. The connection must not answer further requests.
    pub fn dismiss(&self) {
        self.lock().dismissed = true;
    }

    /// The scraper is reached over `link`. Until this report, it counts as near.
    pub fn connected_over(&self, link: Link) {
        self.lock().link = link;
    }

    // Reported by the stream.

    /// hyper has read these bytes. They belong to a request head, because a response to a request
    /// with a body is the last one of its connection.
    pub fn bytes_read(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        for &byte in bytes.iter().rev().take(3).rev() {
            inner.last_read.rotate_left(1);
            inner.last_read[2] = byte;
        }
        if let Activity::Idle { .. } = inner.activity {
            inner.activity = Activity::Head { since: Instant::now() };
        }
    }

    /// Whether a request is with the handler, or an exporter's answer is being sent.
    #[must_use]
    pub fn is_scraping(&self) -> bool {
        matches!(self.lock().activity, Activity::Handling | Activity::Relaying { .. })
    }

    /// The scraper's side of the stream ended or failed while a response was in progress.
    pub fn scraper_left(&self) {
        self.lock().left.get_or_insert_with(Instant::now);
    }

    /// Reading from the client failed. A TLS violation counts only outside of a scrape: a scrape
    /// that ends by it has its own log record.
    pub fn read_failed(&self, error: &io::Error) {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            // The client announced that it leaves.
            None | Some(rustls::Error::AlertReceived(_)) => {}
            Some(broken) if !self.is_scraping() => self.lock().broken_tls = Some(broken.clone()),
            Some(_) => {}
        }
    }

    /// The TLS buffer has bytes that the socket did not accept.
    pub fn write_blocked(&self) {
        self.lock().backlog = true;
    }

    /// The socket has accepted all bytes from hyper and TLS. A complete response is now delivered.
    pub fn flushed(&self) {
        let mut inner = self.lock();
        inner.backlog = false;
        let is_whole = match inner.activity {
            Activity::Relaying { .. } if !self.delivery.is_whole() => return,
            Activity::Relaying { .. } => true,
            Activity::Responding { .. } => {
                inner.permit = None;
                false
            }
            Activity::Head { .. } | Activity::Idle { .. } | Activity::Handling => return,
        };
        let since = Instant::now();
        // Pipelined requests may follow the one that was answered. If they are complete, hyper
        // starts the next one without reading. If the last bytes read do not end a head, they start
        // the next head.
        inner.activity = if ends_a_head(inner.last_read) {
            Activity::Idle { since }
        } else {
            Activity::Head { since }
        };
        drop(inner);
        if is_whole {
            self.delivery.complete();
        }
    }

    /// The socket accepted at least one byte, and will probably accept `room` more at once.
    pub fn socket_took_bytes(&self, room: usize) {
        let mut inner = self.lock();
        inner.blocked_since = None;
        inner.room = room;
    }

    /// The socket accepted no byte. The `stall-timeout` runs from the first such report after a
    /// successful write. Returns whether this is that first report.
    pub fn socket_took_nothing(&self) -> bool {
        let mut inner = self.lock();
        let is_first = inner.blocked_since.is_none();
        inner.blocked_since.get_or_insert_with(Instant::now);
        is_first
    }

    /// Whether an answer has begun since the last call.
    pub fn answer_has_begun(&self) -> bool {
        std::mem::take(&mut self.lock().answer_begins)
    }

    /// Whether scrapegate compresses the current answer.
    pub fn compresses(&self) -> bool {
        self.delivery.is_compressed()
    }

    /// Whether the socket must be reset instead of closed: the response was aborted, or the
    /// connection ended during a response.
    pub fn resets_on_close(&self) -> bool {
        self.lock().reset_on_close
    }

    // Asked by the driver.

    /// The timer that expires next, and why the connection ends then.
    pub fn next_clock(&self) -> Option<(Instant, Ending)> {
        let inner = self.lock();
        let activity = match inner.activity {
            Activity::Head { since } => Some((since + self.timeouts.header, Ending::Header)),
            Activity::Idle { since } => Some((since + self.timeouts.idle, Ending::Idle)),
            Activity::Handling => None,
            Activity::Responding { since } => Some((since + self.timeouts.stall, Ending::Stall)),
            Activity::Relaying { deadline } => Some((deadline.instant(), Ending::Deadline)),
        };
        let stall = inner.blocked_since.map(|since| (since + self.timeouts.stall, Ending::Stall));
        let left = inner.left.map(|at| (at, Ending::Left));
        [activity, stall, left].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The timer that has expired at `now`, if one has.
    pub fn expired(&self, now: Instant) -> Option<Ending> {
        self.next_clock().filter(|(at, _)| *at <= now).map(|(_, ending)| ending)
    }

    /// How the client violated the TLS protocol between two scrapes, if it did.
    pub fn broken_tls(&self) -> Option<rustls::Error> {
        self.lock().broken_tls.clone()
    }

    /// Whether the socket has not accepted all bytes of a response yet.
    pub fn owes_bytes(&self) -> bool {
        matches!(self.lock().activity, Activity::Responding { .. } | Activity::Relaying { .. })
    }

    /// Whether a response with `Connection: close` went to a client that may still be sending.
    pub fn refused_early(&self) -> bool {
        self.lock().refused_early
    }

    /// The driver gives up the connection. If a response is in progress, the socket is reset.
    pub fn end(&self, ending: Ending) {
        let mut inner = self.lock();
        inner.ended = Some(ending);
        inner.reset_on_close |=
            matches!(inner.activity, Activity::Relaying { .. } | Activity::Responding { .. });
        drop(inner);
        // No body is left to report the end.
        if self.delivery.is_whole() {
            self.closed();
        }
    }

    /// The connection has ended, and its handler and its body are gone. A scrape in progress is cut
    /// off, and the cause is the [`Ending`].
    pub fn closed(&self) {
        let ended = self.lock().ended;
        self.delivery.cut_off(|waiting_for| abort_cause(ended, waiting_for));
    }
}

/// Why a scrape is cut off, by the end of its connection and the phase in which it waits.
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

impl DeliveryControl for ConnectionState {
    fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    fn room(&self) -> Option<usize> {
        let inner = self.lock();
        (!inner.backlog).then_some(inner.room)
    }

    fn reset_on_close(&self) {
        self.lock().reset_on_close = true;
    }
}

impl ConnectionControl for ConnectionState {
    fn request_arrived(&self) {
        self.lock().activity = Activity::Handling;
    }

    fn responding(&self, after: ConnectionAfter) {
        let mut inner = self.lock();
        inner.activity = Activity::Responding { since: Instant::now() };
        inner.answer_begins = true;
        inner.refused_early |= after == ConnectionAfter::Close;
    }

    fn holds(&self, permit: AnswerPermit) {
        self.lock().permit = Some(permit);
    }

    fn relaying(&self, deadline: Deadline) {
        let mut inner = self.lock();
        inner.activity = Activity::Relaying { deadline };
        inner.answer_begins = true;
    }

    fn link(&self) -> Link {
        self.lock().link
    }

    fn is_dismissed(&self) -> bool {
        self.lock().dismissed
    }
}

/// Whether these bytes end with an empty line, with or without CR.
fn ends_a_head(last_read: [u8; 3]) -> bool {
    matches!(last_read, [b'\n', b'\r', b'\n'] | [_, b'\n', b'\n'])
}

#[cfg(test)]
mod tests;
