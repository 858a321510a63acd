//! Both ends of the proxy as streams that send a [`Script`] and read at their own pace.
//!
//! Time is tokio's. If a test pauses it, waiting takes no real time.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use scrapegate::{downstream::state::ConnectionState, scrape::LARGEST_BATCH};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The data that one end sends.
#[derive(Clone, Debug)]
pub struct Script {
    /// The pieces, and when they arrive, counted from the start of the script.
    pub pieces: VecDeque<(Duration, Bytes)>,
    /// What follows the last piece.
    pub ending: Ending,
    /// When the ending follows.
    pub ends: Duration,
}

/// What follows the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end of the stream.
    Fin,
    /// The error of a connection that was reset.
    Reset,
    /// The end of a TLS stream without close_notify.
    Cut,
    /// Nothing; the stream stays open.
    Open,
}

impl Script {
    /// Sends nothing, and ends at once.
    pub fn empty(ending: Ending) -> Self {
        Self { pieces: VecDeque::new(), ending, ends: Duration::ZERO }
    }

    /// Sends all of `sent` at once.
    pub fn at_once(sent: &[u8], ending: Ending) -> Self {
        let mut script = Self::empty(ending);
        script.send(sent.to_vec());
        script
    }

    /// Adds a piece at the end of the script. An empty piece changes nothing.
    pub fn send(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.pieces.push_back((self.ends, piece));
        }
    }

    /// All data.
    pub fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(_, piece)| piece).copied().collect()
    }

    /// When the first `count` bytes have arrived.
    pub fn arrival_of(&self, count: usize) -> Duration {
        let mut arrived = 0;
        let whole = |piece: &&(Duration, Bytes)| {
            arrived += piece.1.len();
            arrived >= count
        };
        self.pieces.iter().find(whole).map_or(Duration::ZERO, |(at, _)| *at)
    }
}

/// How an end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Everything at once.
    Fast,
    /// This number of bytes, then a pause, repeatedly.
    Slow {
        /// Bytes between two pauses.
        amount: usize,
        /// The pause. It begins with the first write that finds no room.
        pause: Duration,
    },
    /// This number of bytes, then nothing more.
    Stops {
        /// Bytes that are read.
        after: usize,
    },
    /// This number of bytes, then the connection is closed.
    Leaves {
        /// Bytes that are read.
        after: usize,
    },
}

/// The traffic of a stream.
#[derive(Debug, Default)]
pub struct Log {
    /// All bytes that the proxy wrote.
    pub written: Vec<u8>,
    /// Number of bytes that the proxy read.
    pub read: usize,
    /// Number of reads and writes, including those that returned `Pending`.
    pub calls: usize,
    /// Whether the proxy has closed the stream in order, which over TLS means with close_notify.
    pub shut_down: bool,
}

/// A [`Log`] that the stream and the judge share. The stream is closed when the judge has the only
/// reference.
pub type SharedLog = Arc<Mutex<Log>>;

/// Locks a log.
pub fn look(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called after each read with the number of bytes read so far.
type Observer = Box<dyn FnMut(usize) + Send>;

/// The proxy's end of a stream.
pub struct Stream {
    script: Script,
    reader: Reader,
    /// When the script started. `None` while it waits for a request.
    begun: Option<Instant>,
    /// Whether a read is pending once after each piece.
    breathes: bool,
    breath_is_due: bool,
    log: SharedLog,
    /// Gets the reports that a socket would send.
    connection_state: Option<Arc<ConnectionState>>,
    observer: Option<Observer>,
    /// How many bytes are still accepted before the reader pauses, stops or leaves.
    room: usize,
    left: bool,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    waiting_reader: Option<Waker>,
}

impl Stream {
    /// Creates the stream. Its script starts now.
    pub fn new(script: Script, reader: Reader) -> Self {
        let room = match reader {
            Reader::Fast => usize::MAX,
            Reader::Slow { amount: room, .. }
            | Reader::Stops { after: room }
            | Reader::Leaves { after: room } => room,
        };
        Self {
            script,
            reader,
            begun: Some(Instant::now()),
            breathes: false,
            breath_is_due: false,
            log: SharedLog::default(),
            connection_state: None,
            observer: None,
            room,
            left: false,
            reading: None,
            writing: None,
            waiting_reader: None,
        }
    }

    /// Starts the script when the proxy has written a request without a body.
    pub fn after_request(self) -> Self {
        Self { begun: None, ..self }
    }

    /// Lets one read after each piece return nothing, and wakes the reader at once. The proxy then
    /// notices that the sender has nothing more at the moment.
    pub fn breathing(self) -> Self {
        Self { breathes: true, ..self }
    }

    /// Reports to `connection_state`, like the transport of a connection.
    pub fn report_to(self, connection_state: Arc<ConnectionState>) -> Self {
        Self { connection_state: Some(connection_state), ..self }
    }

    /// Calls `observer` after each read with the number of bytes read so far.
    pub fn observed(self, observer: impl FnMut(usize) + Send + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// The traffic so far, and from now on.
    pub fn log(&self) -> SharedLog {
        Arc::clone(&self.log)
    }

    /// Whether `at` after the start has passed. If not, the task is woken at that time. While the
    /// script waits for a request, the request wakes the task.
    fn reached(&mut self, at: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let Some(begun) = self.begun else {
            return Poll::Pending;
        };
        if std::mem::take(&mut self.breath_is_due) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if at <= begun.elapsed() {
            return Poll::Ready(());
        }
        let at = begun + at;
        let timer = self.reading.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().reset(at);
        timer.as_mut().poll(cx)
    }

    /// Waits until there is room for at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.room > 0 {
            return Poll::Ready(Ok(()));
        }
        match self.reader {
            Reader::Fast => Poll::Ready(Ok(())),
            Reader::Slow { amount, pause } => {
                let again = Instant::now() + pause;
                let timer = self.writing.get_or_insert_with(|| Box::pin(sleep_until(again)));
                std::task::ready!(timer.as_mut().poll(cx));
                self.writing = None;
                self.room = amount;
                Poll::Ready(Ok(()))
            }
            Reader::Stops { .. } => Poll::Pending,
            Reader::Leaves { .. } => {
                self.left = true;
                self.wake_reader();
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.waiting_reader.take() {
            reader.wake();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        look(&this.log).calls += 1;
        if this.left {
            return Poll::Ready(Ok(()));
        }
        let next = this.script.pieces.front().map_or(this.script.ends, |(at, _)| *at);
        if this.reached(next, cx).is_pending() {
            this.waiting_reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some((_, piece)) = this.script.pieces.front_mut() else {
            return match this.script.ending {
                Ending::Fin => Poll::Ready(Ok(())),
                Ending::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Ending::Cut => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ending::Open => {
                    this.waiting_reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let count = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..count]);
        piece.advance(count);
        if piece.is_empty() {
            this.script.pieces.pop_front();
            this.breath_is_due = this.breathes;
        }
        let mut log = look(&this.log);
        log.read += count;
        let read = log.read;
        drop(log);
        if let Some(observer) = &mut this.observer {
            observer(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        look(&this.log).calls += 1;
        match this.poll_room(cx) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => {
                if let Some(connection_state) = &this.connection_state {
                    connection_state.socket_took_nothing();
                }
                return Poll::Pending;
            }
        }
        if let Some(connection_state) = &this.connection_state {
            connection_state.socket_took_bytes(LARGEST_BATCH);
        }
        let mut log = look(&this.log);
        let before = this.room;
        for buf in bufs {
            let taken = buf.len().min(this.room);
            log.written.extend_from_slice(&buf[..taken]);
            this.room -= taken;
        }
        // The proxy sends a request in one write.
        let is_request = log.written.ends_with(b"\r\n\r\n");
        drop(log);
        if this.begun.is_none() && is_request {
            this.begun = Some(Instant::now());
            this.wake_reader();
        }
        Poll::Ready(Ok(before - this.room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        look(&self.log).shut_down = true;
        Poll::Ready(Ok(()))
    }
}
