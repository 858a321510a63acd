//! The stream of a scraper in two layers. [`Transport`] below TLS reports what the socket accepts.
//! [`Downstream`] above TLS reports bytes read and responses flushed.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{round_trip::RoundTrip, write_room::WriteRoom};
use crate::{downstream::state::ConnectionState, scrape::link::Link};

/// A TCP connection that reports when the socket accepts no more bytes, and then wakes its task once.
/// Sets the limit for the bytes that the kernel accepts before it can send them. If a response was
/// aborted, dropping the transport resets the connection instead of closing it.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    state: Option<Arc<ConnectionState>>,
    /// Measures the round trip until the transport reports to a state.
    round_trip: RoundTrip,
    room: WriteRoom,
}

impl Transport {
    /// Wraps an accepted connection. It reports nothing until [`Transport::report_to`] is called.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let (round_trip, room) = (RoundTrip::default(), WriteRoom::default());
        Self { stream, state: None, round_trip, room }
    }

    /// Reports to `state` from now on. What has passed so far, such as a TLS handshake, tells how
    /// far away the scraper is.
    pub fn report_to(&mut self, state: Arc<ConnectionState>) {
        state.connected_over(Link { is_far: self.round_trip.is_far(&self.stream) });
        self.state = Some(state);
    }

    /// Whether the peer's FIN or RST has arrived, even if unread bytes precede it. Uses the
    /// readiness that the kernel has reported so far, and does not wait.
    #[must_use]
    pub fn peer_has_ended(&self) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE));
        let now = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(now, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    fn report(&mut self, taken: &Poll<io::Result<usize>>, cx: &Context<'_>) {
        let Some(state) = &self.state else {
            return self.round_trip.sent();
        };
        if state.answer_has_begun() {
            self.room.begin_answer(&self.stream, state.compresses());
        }
        match taken {
            Poll::Ready(Ok(count)) => {
                state.socket_took_bytes(self.room.accepted(&self.stream, *count));
            }
            // hyper gives up the connection.
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if state.socket_took_nothing() {
                    // With TLS, hyper has handed the whole batch to rustls. In the next poll of the
                    // task it polls the body, which then frees the memory that it does not need
                    // now. With plain HTTP, hyper may still hold the batch. The poll then does
                    // nothing.
                    cx.waker().wake_by_ref();
                }
                self.room.full(&self.stream);
            }
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.state.as_ref().is_some_and(|state| state.resets_on_close()) {
            // A reset also discards what the kernel still buffers for a scraper that does not read.
            // If setting the option fails, the connection is closed, which ends the message equally
            // early.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.state.is_none() && read.is_ready() {
            self.round_trip.received();
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.report(&taken, cx);
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.report(&taken, cx);
        taken
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Limit for the bytes that are read ahead while a request is being answered.
const MOST_AHEAD: usize = 64 * 1024;

/// How often to check whether a scraper that sent more than [`MOST_AHEAD`] has left. Its FIN
/// follows bytes that are not read, and only a read would wake the task.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The stream that hyper reads and writes: the TLS stream, or with plain HTTP the transport itself.
#[derive(Debug)]
pub struct Downstream<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// hyper waits for bytes, and will see the end of the stream itself.
    hyper_waits: bool,
    /// Bytes that were read while hyper did not read.
    ahead: Vec<u8>,
    /// Whether the peer has ended the stream, even if unread bytes precede the end.
    has_ended: fn(&S) -> bool,
    /// When to call `has_ended` again.
    look_again: Option<Pin<Box<Sleep>>>,
}

impl<S> Downstream<S> {
    /// Wraps `stream` for hyper and reports to `state`. `has_ended` says without reading whether
    /// the peer has ended the stream, as far as this is known.
    #[must_use]
    pub fn new(stream: S, state: Arc<ConnectionState>, has_ended: fn(&S) -> bool) -> Self {
        let ahead = Vec::new();
        Self { stream, state, hyper_waits: false, ahead, has_ended, look_again: None }
    }

    /// Moves bytes that were read ahead into `buf`.
    fn take_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
            self.look_again = None;
        }
    }
}

impl<S: AsyncRead + Unpin> Downstream<S> {
    /// Checks whether the scraper has left while its request is being answered. While hyper has the
    /// bytes of a further request, hyper does not read, and would notice only when a write fails.
    ///
    /// Reads up to [`MOST_AHEAD`] bytes ahead. If a scraper has sent more, only the end of the
    /// connection below TLS is noticed, by `has_ended`.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        if self.hyper_waits || !self.state.is_scraping() {
            return;
        }
        let mut piece = [0; 1024];
        while self.ahead.len() < MOST_AHEAD {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.ahead.extend_from_slice(piece.filled());
                }
                Poll::Ready(Ok(()) | Err(_)) => return self.state.scraper_left(),
            }
        }
        if (self.has_ended)(&self.stream) {
            return self.state.scraper_left();
        }
        let timer = self.look_again.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + LOOK_AGAIN);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Downstream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = if self.ahead.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            self.take_ahead(buf);
            Poll::Ready(Ok(()))
        };
        self.hyper_waits = read.is_pending();
        if let Poll::Ready(Err(error)) = &read {
            self.state.read_failed(error);
        }
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            self.state.bytes_read(bytes);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Downstream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, buf);
        if taken.is_pending() {
            self.state.write_blocked();
            self.look_ahead(cx);
        }
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if taken.is_pending() {
            self.state.write_blocked();
            self.look_ahead(cx);
        }
        taken
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.state.write_blocked(),
            // hyper flushes only when it has no more bytes to write, so the socket has accepted
            // everything.
            Poll::Ready(Ok(())) => self.state.flushed(),
            Poll::Ready(Err(_)) => {}
        }
        self.look_ahead(cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
