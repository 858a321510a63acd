//! The far ends of the proxy as streams in memory. Each sends a [`Script`] and reads at its own
//! pace. Time is tokio's and is paused, so waiting takes no real time.

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Buf;
use scrapegate::downstream::activity::Activity;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::script::{Ending, Script};

/// How an end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Everything at once.
    Fast,
    /// This number of bytes, then a pause, repeatedly.
    Slow { amount: usize, pause: Duration },
    /// This number of bytes, then nothing more.
    Stops { after: usize },
    /// This number of bytes, then the connection is closed.
    Leaves { after: usize },
}

/// The traffic of a stream.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// All bytes that the proxy wrote.
    pub(crate) written: Vec<u8>,
    /// Number of bytes that the proxy read.
    pub(crate) read: usize,
    /// Number of reads and writes, including those that returned `Pending`.
    pub(crate) calls: usize,
}

/// A [`Log`] that the stream and the judge share. The stream is closed when the judge has the only
/// reference.
pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// Locks a log.
pub(crate) fn look(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called after each read with the number of bytes read so far.
type Observer = Box<dyn FnMut(usize) + Send>;

/// The proxy's end of a stream.
pub(crate) struct Stream {
    script: Script,
    reader: Reader,
    begun: Instant,
    log: SharedLog,
    /// Gets the reports that a socket would send.
    activity: Option<Arc<Activity>>,
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
    pub(crate) fn new(script: Script, reader: Reader) -> Self {
        let room = match reader {
            Reader::Fast => usize::MAX,
            Reader::Slow { amount: room, .. }
            | Reader::Stops { after: room }
            | Reader::Leaves { after: room } => room,
        };
        Self {
            script,
            reader,
            begun: Instant::now(),
            log: SharedLog::default(),
            activity: None,
            observer: None,
            room,
            left: false,
            reading: None,
            writing: None,
            waiting_reader: None,
        }
    }

    /// Reports to `activity`, like the transport of a connection.
    pub(crate) fn report_to(self, activity: Arc<Activity>) -> Self {
        Self { activity: Some(activity), ..self }
    }

    /// Calls `observer` after each read with the number of bytes read so far.
    pub(crate) fn observed(self, observer: impl FnMut(usize) + Send + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    pub(crate) fn log(&self) -> SharedLog {
        Arc::clone(&self.log)
    }

    /// Whether `at` after the start has passed. If not, the task is woken at that time.
    fn reached(&mut self, at: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if at <= self.begun.elapsed() {
            return Poll::Ready(());
        }
        let at = self.begun + at;
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
                if let Some(reader) = self.waiting_reader.take() {
                    reader.wake();
                }
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
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
                if let Some(activity) = &this.activity {
                    activity.socket_took_nothing();
                }
                return Poll::Pending;
            }
        }
        if let Some(activity) = &this.activity {
            activity.socket_took_bytes();
        }
        let mut log = look(&this.log);
        let before = this.room;
        for buf in bufs {
            let taken = buf.len().min(this.room);
            log.written.extend_from_slice(&buf[..taken]);
            this.room -= taken;
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
        Poll::Ready(Ok(()))
    }
}
