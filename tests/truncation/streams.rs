//! Both connections of the proxy in memory, driven by the runtime's paused clock.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use scrapegate_harness::{PATIENCE, testbed::Then};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::deaths::{Death, Moment, Reader};

/// Size of one read from an exporter that sends several packets: the payload of an Ethernet packet.
const PIECE: usize = 1460;

/// Long enough, in virtual time, for the proxy to pass on the bytes that it has.
const A_MOMENT: Duration = Duration::from_millis(1);

/// An exporter that reads the request, answers, and dies.
#[derive(Debug)]
pub(crate) struct Exporter {
    /// The bytes still to be sent.
    left: Bytes,
    piece: usize,
    then: Then,
    /// Pauses still to come.
    before_last_byte: Option<Duration>,
    before_end: Option<Duration>,
    /// Whether the next read is pending.
    breathes: bool,
    pause: Option<Pin<Box<Sleep>>>,
    asked: bool,
    reader: Option<Waker>,
}

impl Exporter {
    pub(crate) fn new(death: &Death<'_>) -> Self {
        let (piece, before_last_byte, before_end) = match death.moment {
            Moment::AtOnce => (usize::MAX, None, None),
            Moment::Later => (PIECE, None, Some(A_MOMENT)),
            Moment::JustInTime => (usize::MAX, Some(PATIENCE - Duration::from_secs(1)), None),
            Moment::TooLate => (usize::MAX, Some(PATIENCE + Duration::from_secs(1)), None),
        };
        Self {
            left: death.answer.bytes.slice(..death.cut),
            piece,
            then: death.then,
            before_last_byte,
            before_end,
            breathes: false,
            pause: None,
            asked: false,
            reader: None,
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.breathes) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = match self.left.len() {
            0 => self.before_end.take(),
            1 => self.before_last_byte.take(),
            _ => None,
        };
        if let Some(length) = next {
            self.pause = Some(Box::pin(sleep(length)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Exporter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ready!(self.poll_pause(cx));
        if self.left.is_empty() {
            return match self.then {
                Then::Fin => Poll::Ready(Ok(())),
                Then::Rst => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Then::Stall => Poll::Pending,
            };
        }
        let last = usize::from(self.before_last_byte.is_some());
        let count = (self.left.len() - last).min(self.piece).min(buf.remaining());
        buf.put_slice(&self.left[..count]);
        self.left.advance(count);
        self.breathes = self.piece < usize::MAX;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Exporter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The proxy sends a request in one write.
        self.asked |= buf.ends_with(b"\r\n\r\n");
        if let Some(reader) = self.reader.take_if(|_| buf.ends_with(b"\r\n\r\n")) {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The bytes that a scraper has received.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    /// Whether the proxy has closed the connection in order, which over TLS means with
    /// close_notify.
    pub(crate) ended: bool,
}

/// A scraper that sends one request and keeps its connection.
#[derive(Debug)]
pub(crate) struct Scraper {
    request: &'static [u8],
    got: Arc<Mutex<Got>>,
    /// How many bytes it accepts at a time, and how many of them are left.
    window: usize,
    room: usize,
    /// The pause before it accepts more.
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
}

impl Scraper {
    pub(crate) fn new(request: &'static [u8], death: &Death<'_>) -> Self {
        let (window, pause) = match death.reader {
            Reader::Fast => (usize::MAX, Duration::ZERO),
            Reader::Slow => (death.answer.bytes.len() / 16 + 20, A_MOMENT),
            Reader::Asleep => (1000, PATIENCE * 2),
        };
        Self { request, got: Arc::default(), window, room: window, pause, pausing: None }
    }

    /// The buffer for the received bytes.
    pub(crate) fn got(&self) -> Arc<Mutex<Got>> {
        Arc::clone(&self.got)
    }
}

/// Locks the received bytes.
pub(crate) fn lock(got: &Mutex<Got>) -> MutexGuard<'_, Got> {
    got.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Scraper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.request.split_at(self.request.len().min(buf.remaining()));
        buf.put_slice(now);
        self.request = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scraper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.room == 0 {
            let length = this.pause;
            let pausing = this.pausing.get_or_insert_with(|| Box::pin(sleep(length)));
            ready!(pausing.as_mut().poll(cx));
            this.pausing = None;
            this.room = this.window;
        }
        let count = buf.len().min(this.room);
        lock(&this.got).bytes.extend_from_slice(&buf[..count]);
        this.room -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.got).ended = true;
        Poll::Ready(Ok(()))
    }
}
