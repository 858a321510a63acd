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

/// A TCP connection that reports when the socket accepts no more bytes. If a response was aborted,
/// dropping the transport resets the connection instead of closing it.
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

    fn report(&mut self, taken: &Poll<io::Result<usize>>) {
        let Some(state) = &self.state else {
            return self.round_trip.sent();
        };
        match taken {
            Poll::Ready(Ok(count)) => {
                state.socket_took_bytes(self.room.accepted(&self.stream, *count));
            }
            // hyper gives up the connection.
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let is_compressed = state.socket_took_nothing();
                self.room.full(&self.stream, is_compressed);
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
        self.report(&taken);
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.report(&taken);
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::TcpListener,
        time::timeout,
    };

    use super::*;
    use crate::{
        downstream::state::{Ending, Timeouts},
        http::control::ConnectionControl as _,
        scrape::delivery::DeliveryControl as _,
    };

    fn state() -> Arc<ConnectionState> {
        let secs = Duration::from_secs;
        Arc::new(ConnectionState::new(Timeouts {
            header: secs(60),
            idle: secs(60),
            stall: secs(30),
        }))
    }

    /// A transport and the socket of its peer.
    async fn connected() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Transport::new(listener.accept().await.unwrap().0), peer)
    }

    /// Everything up to the end of the stream, which must come within ten seconds.
    async fn all_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut all = String::new();
        let reading = stream.read_to_string(&mut all);
        timeout(Duration::from_secs(10), reading).await.expect("an end").unwrap();
        all
    }

    #[tokio::test]
    async fn a_transport_forwards_all_bytes_and_shuts_down_in_order() {
        let (mut transport, mut peer) = connected().await;
        assert!(transport.is_write_vectored());
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        assert_eq!(transport.write_vectored(&slices).await.unwrap(), 4);
        transport.write_all(b"ef").await.unwrap();
        transport.shutdown().await.unwrap();
        assert_eq!(all_of(&mut peer).await, "abcdef");
        peer.write_all(b"gh").await.unwrap();
        drop(peer);
        assert_eq!(all_of(&mut transport).await, "gh");
    }

    #[tokio::test]
    async fn a_transport_reports_a_blocked_socket_and_its_end() {
        for vectored in [false, true] {
            let (mut transport, mut peer) = connected().await;
            let state = state();
            transport.report_to(Arc::clone(&state));
            let first_clock = || state.next_clock().map(|(_, ending)| ending);
            let piece = [0; 64 * 1024];
            let mut write = |cx: &mut Context<'_>| {
                let transport = Pin::new(&mut transport);
                if vectored {
                    transport.poll_write_vectored(cx, &[IoSlice::new(&piece)])
                } else {
                    transport.poll_write(cx, &piece)
                }
            };
            // Until the buffers of both sockets are full.
            let is_full = poll_fn(|cx| {
                let is_full = |_| {
                    let taken = write(cx);
                    let first = if taken.is_ready() { Ending::Header } else { Ending::Stall };
                    assert_eq!(first_clock(), Some(first));
                    taken.is_pending()
                };
                Poll::Ready((0..10_000).any(is_full))
            });
            assert!(is_full.await, "the socket takes bytes without end");
            let mut waste = vec![0; 1 << 20];
            loop {
                tokio::select! {
                    biased;
                    taken = poll_fn(&mut write) => break assert!(taken.unwrap() > 0),
                    read = peer.read(&mut waste) => assert!(read.unwrap() > 0),
                }
            }
            assert_eq!(first_clock(), Some(Ending::Header));
        }
    }

    #[tokio::test]
    async fn a_transport_is_reset_after_an_aborted_response_and_closed_otherwise() {
        for aborted in [false, true] {
            let (mut transport, mut peer) = connected().await;
            let state = state();
            if aborted {
                state.reset_on_close();
            }
            transport.report_to(state);
            drop(transport);
            let end = peer.read(&mut [0]).await.map_err(|error| error.kind());
            assert_eq!(end, if aborted { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) });
        }
    }

    #[tokio::test]
    async fn a_downstream_forwards_all_bytes_and_shuts_down_in_order() {
        let (stream, mut scraper) = duplex(100);
        let mut downstream = Downstream::new(stream, state(), |_| false);
        assert!(downstream.is_write_vectored());
        downstream.write_all(b"ab").await.unwrap();
        let slices = [IoSlice::new(b"cd"), IoSlice::new(b"ef")];
        assert_eq!(downstream.write_vectored(&slices).await.unwrap(), 4);
        downstream.shutdown().await.unwrap();
        assert_eq!(all_of(&mut scraper).await, "abcdef");
    }

    #[tokio::test]
    async fn bytes_read_ahead_come_first_and_are_limited() {
        let state = state();
        let (stream, mut scraper) = duplex(4 * MOST_AHEAD);
        let sent: Vec<u8> = (0..2 * MOST_AHEAD).map(|at| at.to_le_bytes()[0]).collect();
        scraper.write_all(&sent).await.unwrap();
        let mut downstream = Downstream::new(stream, Arc::clone(&state), |_| false);
        downstream.flush().await.unwrap();
        assert!(downstream.ahead.is_empty(), "no request is being answered");
        state.request_arrived();
        downstream.flush().await.unwrap();
        assert_eq!(downstream.ahead.len(), MOST_AHEAD);
        let mut received = vec![0; 1000];
        downstream.read_exact(&mut received).await.unwrap();
        assert_eq!(downstream.ahead.len(), MOST_AHEAD - 1000);
        received.resize(sent.len(), 0);
        downstream.read_exact(&mut received[1000..]).await.unwrap();
        assert!(received == sent && downstream.ahead.capacity() == 0);
    }

    #[tokio::test]
    async fn f26_the_end_of_a_connection_is_seen_despite_unread_bytes() {
        for resets in [false, true] {
            let (transport, mut peer) = connected().await;
            peer.write_all(&[0; 1000]).await.unwrap();
            transport.stream.readable().await.unwrap();
            assert!(!transport.peer_has_ended());
            if resets {
                socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(peer);
            let seen = async {
                while !transport.peer_has_ended() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), seen).await.expect("the end is seen");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f26_a_scraper_that_sent_more_than_the_limit_is_checked_at_intervals() {
        let state = state();
        let (stream, mut scraper) = duplex(4 * MOST_AHEAD);
        scraper.write_all(&[0; 2 * MOST_AHEAD]).await.unwrap();
        static ENDED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        let has_ended = |_: &_| ENDED.load(std::sync::atomic::Ordering::Relaxed);
        let mut downstream = Downstream::new(stream, Arc::clone(&state), has_ended);
        state.request_arrived();
        let begun = Instant::now();
        let left = poll_fn(|cx| {
            let _ = Pin::new(&mut downstream).poll_flush(cx);
            match state.expired(Instant::now()) {
                Some(ending) => Poll::Ready(ending),
                None => {
                    ENDED.store(begun.elapsed() > LOOK_AGAIN, std::sync::atomic::Ordering::Relaxed);
                    Poll::Pending
                }
            }
        });
        assert_eq!(left.await, Ending::Left);
        assert!(begun.elapsed() <= LOOK_AGAIN * 4, "{:?}", begun.elapsed());
        let mut received = vec![0; 2 * MOST_AHEAD];
        downstream.read_exact(&mut received).await.unwrap();
        assert!(downstream.look_again.is_none());
    }
}
