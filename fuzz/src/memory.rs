//! The far ends of the proxy as streams in memory: each sends a [`Script`] and takes what it is
//! sent at its own pace. Time is tokio's, and paused: pauses cost nothing.

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
use scrapegate::activity::Activity;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::script::{Ending, Script};

/// How an end takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// All at once.
    Fast,
    /// So many bytes, then a pause, again and again.
    Slow { amount: usize, pause: Duration },
    /// So many bytes, then none.
    Stops { after: usize },
    /// So many bytes, then it is gone.
    Leaves { after: usize },
}

/// What went through a stream.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// What the proxy wrote.
    pub(crate) written: Vec<u8>,
    /// How many bytes the proxy read.
    pub(crate) read: usize,
    /// Reads and writes, and how often there was nothing to read or no room.
    pub(crate) calls: usize,
}

/// A [`Log`] that stream and judge share. The stream is closed when nobody else has it.
pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// Looks into a log.
pub(crate) fn look(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called after each read with the bytes read so far.
type Observer = Box<dyn FnMut(usize) + Send>;

/// The proxy's end of a stream.
pub(crate) struct Stream {
    script: Script,
    reader: Reader,
    begun: Instant,
    log: SharedLog,
    /// Told what a socket would tell it.
    activity: Option<Arc<Activity>>,
    observer: Option<Observer>,
    /// How much is taken before the reader pauses, stops or leaves.
    room: usize,
    left: bool,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    waiting_reader: Option<Waker>,
}

impl Stream {
    /// Its time begins now.
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

    /// Reports to `activity` as the transport of a connection does.
    pub(crate) fn report_to(self, activity: Arc<Activity>) -> Self {
        Self { activity: Some(activity), ..self }
    }

    /// Tells `observer` after each read how many bytes were read.
    pub(crate) fn observed(self, observer: impl FnMut(usize) + Send + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    pub(crate) fn log(&self) -> SharedLog {
        Arc::clone(&self.log)
    }

    /// Whether `at` after the beginning has passed; if not, the task is woken then.
    fn reached(&mut self, at: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if at <= self.begun.elapsed() {
            return Poll::Ready(());
        }
        let at = self.begun + at;
        let timer = self.reading.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().reset(at);
        timer.as_mut().poll(cx)
    }

    /// Makes room for at least one byte.
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
