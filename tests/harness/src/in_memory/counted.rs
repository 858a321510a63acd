//! Both ends of a scrape in memory, over plain HTTP, and a stream that counts the proxy's calls.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::Message;

/// Calls and bytes of a stream. Each call corresponds to a system call on a socket.
#[derive(Debug, Default)]
pub struct Calls {
    /// Reads that returned bytes or the end of the stream.
    reads: AtomicUsize,
    /// Writes that accepted bytes.
    writes: AtomicUsize,
    /// Bytes written.
    written: AtomicUsize,
}

impl Calls {
    fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn count_write(&self, bytes: usize) {
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

/// The far end of a connection. It runs inside the proxy's own reads and writes.
pub trait Peer: Unpin {
    /// Whether the stream announces vectored writes.
    const VECTORED: bool;

    /// Fills `buf`. Nothing is the end of the stream.
    fn send(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()>;

    /// Takes bytes that the proxy wrote.
    ///
    /// # Errors
    /// If the peer does not accept them.
    fn receive(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The proxy's end of a connection to a [`Peer`]. It accepts all bytes at once.
#[derive(Debug)]
pub struct Stream<P> {
    peer: P,
    calls: Arc<Calls>,
}

impl<P> Stream<P> {
    /// A connection to `peer` whose calls are counted in `calls`.
    pub fn new(peer: P, calls: Arc<Calls>) -> Self {
        Self { peer, calls }
    }
}

impl<P: Peer> AsyncRead for Stream<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.peer.send(cx, buf));
        self.calls.count_read();
        Poll::Ready(Ok(()))
    }
}

impl<P: Peer> AsyncWrite for Stream<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.calls.count_write(buf.len());
        self.peer.receive(buf)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        self.calls.count_write(bytes);
        for buf in bufs {
            self.peer.receive(buf)?;
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        P::VECTORED
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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

/// An exporter that answers after it has received a request.
#[derive(Debug)]
pub struct Exporter {
    message: Message,
    pace: Pace,
    /// The rest of the current piece.
    piece: Bytes,
    next_piece: usize,
    left_of_burst: usize,
    asked: bool,
    reader: Option<Waker>,
}

impl Exporter {
    /// An exporter that answers with `message`.
    pub fn new(message: Message, pace: Pace) -> Self {
        Self {
            message,
            pace,
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

impl Peer for Exporter {
    const VECTORED: bool = false;

    fn send(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.left_of_burst == 0 {
            self.left_of_burst = burst(self.pace);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while buf.remaining() > 0 && self.left_of_burst > 0 {
            if self.piece.is_empty() {
                self.refill();
            }
            let count = self.piece.len().min(buf.remaining()).min(self.left_of_burst);
            if count == 0 {
                break;
            }
            buf.put_slice(&self.piece[..count]);
            self.piece.advance(count);
            self.left_of_burst -= count;
        }
        Poll::Ready(())
    }

    fn receive(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The proxy sends a request in one write.
        self.asked |= bytes.ends_with(b"\r\n\r\n");
        if let Some(reader) = self.reader.take().filter(|_| self.asked) {
            reader.wake();
        }
        Ok(())
    }
}

/// A scraper that sends one request and reads everything.
#[derive(Debug)]
pub struct Scraper {
    request: &'static [u8],
}

impl Scraper {
    /// A scraper that sends `request`, which has `Connection: close`.
    pub fn new(request: &'static [u8]) -> Self {
        Self { request }
    }
}

impl Peer for Scraper {
    const VECTORED: bool = true;

    fn send(&mut self, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()> {
        if self.request.is_empty() {
            // The proxy closes the connection after its answer.
            return Poll::Pending;
        }
        let (now, later) = self.request.split_at(self.request.len().min(buf.remaining()));
        buf.put_slice(now);
        self.request = later;
        Poll::Ready(())
    }

    fn receive(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
