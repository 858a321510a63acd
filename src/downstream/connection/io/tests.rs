//! What each of the two layers forwards and reports.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

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
    Arc::new(ConnectionState::new(Timeouts { header: secs(60), idle: secs(60), stall: secs(30) }))
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

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// hyper polls the body again only when the task runs again, and the body then frees memory.
#[tokio::test]
async fn the_first_write_that_the_socket_refuses_wakes_the_task_once() {
    let (mut transport, _peer) = connected().await;
    transport.report_to(state());
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    let piece = [0; 64 * 1024];
    let mut write = || Pin::new(&mut transport).poll_write(&mut cx, &piece);
    while write().is_ready() {
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }
    for _ in 0..3 {
        assert!(write().is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
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
    let has_ended = |_: &_| ENDED.load(Ordering::Relaxed);
    let mut downstream = Downstream::new(stream, Arc::clone(&state), has_ended);
    state.request_arrived();
    let begun = Instant::now();
    let left = poll_fn(|cx| {
        let _ = Pin::new(&mut downstream).poll_flush(cx);
        match state.expired(Instant::now()) {
            Some(ending) => Poll::Ready(ending),
            None => {
                ENDED.store(begun.elapsed() > LOOK_AGAIN, Ordering::Relaxed);
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

#[tokio::test]
async fn a_round_trip_of_the_handshake_lasts_until_bytes_arrive() {
    let (mut transport, mut peer) = connected().await;
    transport.write_all(b"x").await.unwrap();
    let measured = |transport: &Transport| format!("{:?}", transport.round_trip);
    let sent = measured(&transport);
    let waiting = poll_fn(|cx| {
        let mut byte = [0];
        let read = Pin::new(&mut transport).poll_read(cx, &mut ReadBuf::new(&mut byte));
        Poll::Ready(read.is_pending())
    });
    assert!(waiting.await, "the peer has sent nothing");
    assert_eq!(measured(&transport), sent, "nothing has arrived");
    peer.write_all(b"y").await.unwrap();
    transport.read_exact(&mut [0]).await.unwrap();
    assert_ne!(measured(&transport), sent);
}

/// A pipe that takes one slice at a time.
struct OneSlice(tokio::io::DuplexStream);

impl AsyncRead for OneSlice {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for OneSlice {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn hyper_learns_whether_a_stream_takes_several_slices_at_once() {
    let (one, _scraper) = duplex(100);
    assert!(!Downstream::new(OneSlice(one), state(), |_| false).is_write_vectored());
    let (several, _scraper) = duplex(100);
    assert!(Downstream::new(several, state(), |_| false).is_write_vectored());
}
