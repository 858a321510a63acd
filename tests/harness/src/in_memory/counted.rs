//! Both ends of a scrape as streams in memory, over plain HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::Message;

/// Calls and bytes of a stream. Each call corresponds to a system call on a socket.
#[derive(Debug, Default)]
pub struct Calls {
    /// Reads that returned bytes or the end of the stream.
    pub reads: AtomicUsize,
    /// Writes that accepted bytes.
    pub writes: AtomicUsize,
    /// Bytes written.
    pub written: AtomicUsize,
}

impl Calls {
    /// Counts a read.
    pub fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write of this many bytes.
    pub fn count_write(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reads so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }
}

/// Whether an exporter sends everything at once or with pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Every read fills its buffer.
    AtOnce,
    /// After this number of bytes, one read returns nothing, and the reader is woken at once.
    Bursts(usize),
}

/// The proxy's end of a connection to an exporter. The exporter answers after it has received a
/// request.
#[derive(Debug)]
pub struct Exporter {
    message: Message,
    pace: Pace,
    calls: Arc<Calls>,
    /// The rest of the current piece.
    piece: Bytes,
    next_piece: usize,
    left_of_burst: usize,
    asked: bool,
    reader: Option<Waker>,
}

impl Exporter {
    /// An exporter that answers with `message`, and counts its calls in `calls`.
    pub fn new(message: Message, pace: Pace, calls: Arc<Calls>) -> Self {
        Self {
            message,
            pace,
            calls,
            piece: Bytes::new(),
            next_piece: 0,
            left_of_burst: burst(pace),
            asked: false,
            reader: None,
        }
    }

    fn refill(&mut self) {
        let Message { head, block, repeats, tail, .. } = &self.message;
        self.piece = if self.next_piece == 0 {
            head.clone()
        } else if self.next_piece <= *repeats {
            block.clone()
        } else if self.next_piece == *repeats + 1 {
            tail.clone()
        } else {
            return;
        };
        self.next_piece += 1;
    }
}

fn burst(pace: Pace) -> usize {
    match pace {
        Pace::AtOnce => usize::MAX,
        Pace::Bursts(bytes) => bytes,
    }
}

impl AsyncRead for Exporter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.asked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if this.left_of_burst == 0 {
            this.left_of_burst = burst(this.pace);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.calls.count_read();
        while buf.remaining() > 0 && this.left_of_burst > 0 {
            if this.piece.is_empty() {
                this.refill();
            }
            let count = this.piece.len().min(buf.remaining()).min(this.left_of_burst);
            if count == 0 {
                break;
            }
            buf.put_slice(&this.piece[..count]);
            this.piece.advance(count);
            this.left_of_burst -= count;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Exporter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.calls.count_write(buf.len());
        // The proxy sends a request in one write.
        self.asked |= buf.ends_with(b"\r\n\r\n");
        if let Some(reader) = self.reader.take().filter(|_| self.asked) {
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

/// The proxy's end of a connection from a scraper that sends one request and reads everything.
#[derive(Debug)]
pub struct Scraper {
    request: &'static [u8],
    calls: Arc<Calls>,
}

impl Scraper {
    /// A scraper that sends `request`, and counts its calls in `calls`.
    pub fn new(request: &'static [u8], calls: Arc<Calls>) -> Self {
        Self { request, calls }
    }
}

impl AsyncRead for Scraper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.is_empty() {
            // No more bytes follow, because the request has `Connection: close`.
            return Poll::Pending;
        }
        let (now, later) = self.request.split_at(self.request.len().min(buf.remaining()));
        buf.put_slice(now);
        self.request = later;
        self.calls.count_read();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scraper {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.calls.count_write(buf.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        self.calls.count_write(bytes);
        Poll::Ready(Ok(bytes))
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
