//! Drives hyper over one stream from a scraper, and enforces all timeouts of the stream. Generic
//! over the stream and over the handler.
//!
//! The timeouts are enforced here and not in the handler or the body, because this future is always
//! polled. While the scraper does not read, hyper may not poll the body again. While a request head is
//! incomplete, it polls no handler.

mod io;
mod round_trip;
mod write_room;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

pub use self::io::{Downstream, Transport};
use crate::{
    common::shutdown::ShutdownPhase,
    downstream::{
        linger::Linger,
        state::{ConnectionState, Ending},
    },
    http::metrics::Unread,
    scrape::SMALLEST_BATCH,
};

/// How many bytes hyper takes from a body before it writes them. Every full batch is larger, so it is
/// written before the next is produced.
const WRITE_BUFFER: usize = SMALLEST_BATCH / 2;

/// Largest request head, in bytes. hyper answers 431 to a larger one.
const MAX_HEAD: usize = 16 * 1024;

/// After a response that did not wait for the end of the request. The client may still be sending,
/// and has to read the response.
const LINGER: Linger = Linger { time: Duration::from_secs(1), bytes: 4 * 1024 * 1024 };

/// For connections whose client sends no more, and during a drain. hyper has already closed the
/// stream, except for an idle client and after a request for an upgrade.
const NO_LINGER: Linger = Linger { bytes: 0, ..LINGER };

/// How a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// As HTTP/1.1 provides: the client closed it, or a response had `Connection: close`.
    Normally,
    /// A timer expired, or the proxy shut down.
    By(Ending),
    /// hyper gave up: the request was malformed, the client disappeared, or the response was
    /// aborted.
    Failed(hyper::Error),
    /// The client violated the TLS protocol. rustls has sent the alert, if it defines one for the
    /// violation.
    BrokenTls(rustls::Error),
}

impl Closed {
    /// Why the last request did not reach the handler; `None` if no request was lost.
    #[must_use]
    pub fn unread(&self) -> Option<Unread> {
        match self {
            Self::By(Ending::Header) => Some(Unread::HeaderTimeout),
            Self::Failed(error) if error.is_parse_too_large() => Some(Unread::HeadTooLarge),
            Self::Failed(error) if error.is_parse() => Some(Unread::Malformed),
            Self::BrokenTls(_) => Some(Unread::BrokenTls),
            Self::Normally | Self::By(_) | Self::Failed(_) => None,
        }
    }
}

/// A boxed future. The box makes the connection `Unpin`, so that it can give back its stream at the
/// end.
pub type ResponseFuture<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

/// Serves requests on `stream`, one at a time, until the connection ends. `handle` answers each
/// request.
///
/// Enforces the timeouts and the deadline that `state` reports. During a drain, the current
/// request is still answered, and then the connection is closed.
///
/// Dropping the future closes the connection at once. A scrape in progress is aborted.
pub async fn drive<S, H, B>(
    stream: Downstream<S>,
    state: Arc<ConnectionState>,
    mut shutdown: watch::Receiver<ShutdownPhase>,
    handle: H,
) -> Closed
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> ResponseFuture<B> + Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Dropped after hyper, and so after the handler and the body.
    let _closing = Closing(Arc::clone(&state));
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(WRITE_BUFFER)
        .serve_connection(TokioIo::new(stream), service_fn(handle));
    let mut timer = std::pin::pin!(sleep_until(Instant::now()));
    let mut phase = ShutdownPhase::Serving;

    let closed = loop {
        tokio::select! {
            biased;
            // Polled before hyper, which could start the next request in the same poll that ends a
            // response.
            next = phase.next(&mut shutdown) => {
                phase = next;
                match phase {
                    ShutdownPhase::Serving => {}
                    ShutdownPhase::Draining => Pin::new(&mut connection).graceful_shutdown(),
                    ShutdownPhase::Ended => break Closed::By(Ending::Shutdown),
                }
            }
            closed = poll_fn(|cx| {
                // Checked before hyper: a fast, endless body rarely lets hyper return `Pending`.
                if let Some(ending) = state.expired(Instant::now()) {
                    return Poll::Ready(Closed::By(ending));
                }
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(match (state.broken_tls(), ended) {
                        // hyper reports a TLS violation as the end of the stream, or as an I/O
                        // error.
                        (Some(error), _) => Closed::BrokenTls(error),
                        (None, Ok(())) => Closed::Normally,
                        (None, Err(error)) => Closed::Failed(error),
                    });
                }
                poll_clocks(&state, timer.as_mut(), cx).map(Closed::By)
            }) => break closed,
        }
    };

    let client_may_still_send = match &closed {
        Closed::Normally => state.refused_early(),
        Closed::BrokenTls(_) => false,
        // hyper has answered 400, 414 or 431 itself.
        Closed::Failed(error) => error.is_parse() || error.is_parse_too_large(),
        Closed::By(ending) => {
            state.end(*ending);
            false
        }
    };
    // An idle client awaits no response, so a close_notify (RFC 8446 §6.1) cannot make a truncated
    // response look complete.
    let is_in_order = matches!(closed, Closed::Normally | Closed::By(Ending::Idle));
    if matches!(closed, Closed::Normally) && state.owes_bytes() {
        // hyper gives up a connection whose request asked for an upgrade without flushing it.
        state.end(Ending::Unflushed);
    } else if is_in_order || client_may_still_send {
        let reads_on = client_may_still_send && phase == ShutdownPhase::Serving;
        let linger = if reads_on { LINGER } else { NO_LINGER };
        linger.close(connection.into_parts().io.into_inner()).await;
    }
    closed
}

/// Ends the scrape in progress when the connection ends.
struct Closing(Arc<ConnectionState>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Sets `timer` for the next timer of `state`, and returns the reason when it expires.
///
/// `timer` is only moved to an earlier instant. Most changes move the next timer to a later
/// instant. If `timer` fires too early, it is set again here.
fn poll_clocks(
    state: &ConnectionState,
    mut timer: Pin<&mut Sleep>,
    cx: &mut std::task::Context<'_>,
) -> Poll<Ending> {
    loop {
        let Some((at, ending)) = state.next_clock() else {
            return Poll::Pending;
        };
        if at < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        match timer.as_mut().poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(()) if Instant::now() >= at => return Poll::Ready(ending),
            Poll::Ready(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::{
        common::deadline::{Budget, Deadline},
        downstream::state::Timeouts,
        http::control::ConnectionControl as _,
    };

    const DEADLINE: Duration = Duration::from_secs(5);

    /// A body with one chunk. After that it is pending forever, or yields the chunk again each
    /// time.
    struct Talking {
        again: bool,
        said: bool,
    }

    impl Body for Talking {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.said && !self.again {
                return Poll::Pending;
            }
            self.said = true;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 10_000])))))
        }
    }

    fn state() -> Arc<ConnectionState> {
        Arc::new(ConnectionState::new(Timeouts {
            header: Duration::from_secs(3),
            idle: Duration::from_secs(7),
            stall: Duration::from_secs(60),
        }))
    }

    /// Drives one scrape with this body over a pipe of 64 KiB. Returns how the connection ended,
    /// and after what time.
    async fn driven(
        body: impl Fn() -> Talking + Unpin,
        client: impl AsyncFnOnce(DuplexStream),
    ) -> (Closed, Duration) {
        let state = state();
        let (server, mut scraper) = duplex(64 * 1024);
        let (_sender, shutdown) = watch::channel(ShutdownPhase::Serving);
        let stream = Downstream::new(server, Arc::clone(&state), |_| false);
        let begun = Instant::now();
        let answering = Arc::clone(&state);
        let driving = drive(stream, state, shutdown, move |_| {
            let deadline = Deadline::after(Instant::now(), Budget::new(DEADLINE).unwrap());
            answering.request_arrived();
            answering.relaying(deadline);
            let response = Response::new(body());
            Box::pin(async { Ok(response) })
        });
        let (closed, ()) = tokio::join!(async { (driving.await, begun.elapsed()) }, async {
            scraper.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            client(scraper).await;
        });
        closed
    }

    fn assert_at_deadline((closed, after): (Closed, Duration)) {
        assert!(matches!(closed, Closed::By(Ending::Deadline)), "{closed:?}");
        // The resolution of the timer.
        assert!(after >= DEADLINE && after < DEADLINE + Duration::from_millis(2), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_of_a_silent_exporter_ends_at_the_deadline() {
        let read_all = async |mut scraper: DuplexStream| {
            let mut all = Vec::new();
            scraper.read_to_end(&mut all).await.unwrap();
            assert!(all.len() > 10_000 && !all.ends_with(b"0\r\n\r\n"));
        };
        assert_at_deadline(driven(|| Talking { again: false, said: false }, read_all).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_ends_at_the_deadline_if_the_scraper_does_not_read() {
        let read_nothing = async |scraper: DuplexStream| {
            tokio::time::sleep(DEADLINE * 2).await;
            drop(scraper);
        };
        assert_at_deadline(driven(|| Talking { again: true, said: false }, read_nothing).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_ends_at_the_deadline_if_the_scraper_reads_slowly() {
        let drip = async |mut scraper: DuplexStream| {
            let mut some = [0; 1000];
            while scraper.read(&mut some).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        assert_at_deadline(driven(|| Talking { again: true, said: false }, drip).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_that_leaves_after_pipelining_a_request_is_noticed_at_once() {
        let after = Duration::from_secs(2);
        let leave = async |mut scraper: DuplexStream| {
            scraper.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            tokio::time::sleep(after).await;
        };
        let (closed, ended) = driven(|| Talking { again: false, said: false }, leave).await;
        assert!(matches!(closed, Closed::By(Ending::Left)), "{closed:?}");
        // The resolution of the timer.
        assert!(ended >= after && ended < after + Duration::from_millis(2), "{ended:?}");
    }

    /// How many bytes a client that sends 8 MiB can send before the connection ends.
    async fn closed(linger: Linger) -> usize {
        let (server, mut client) = duplex(4096);
        let sending = async {
            let mut sent = 0;
            while sent < 8 << 20 && client.write_all(&[0; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        };
        tokio::join!(linger.close(server), sending).1
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_after_the_last_response_are_read_for_one_second_and_up_to_4_mib() {
        assert_eq!(closed(NO_LINGER).await, 0);
        assert_eq!(closed(LINGER).await, 4 << 20);
        let (server, _silent) = duplex(4096);
        let begun = Instant::now();
        LINGER.close(server).await;
        assert_eq!(begun.elapsed().as_secs(), 1);
    }

    /// Why the request that begins with `begin` was not read, and how many more bytes the client
    /// could send. A client that `leaves` sends no more.
    async fn refused(begin: &[u8], leaves: bool) -> (Option<Unread>, usize) {
        let (server, mut client) = duplex(64 * 1024);
        let (_sender, shutdown) = watch::channel(ShutdownPhase::Serving);
        let state = state();
        let stream = Downstream::new(server, Arc::clone(&state), |_| false);
        let driving = drive(stream, state, shutdown, |_| -> ResponseFuture<Talking> {
            panic!("no request is complete")
        });
        let sending = async {
            client.write_all(begin).await.unwrap();
            if leaves {
                client.shutdown().await.unwrap();
            }
            let mut sent = 0;
            while sent < 8 << 20 && client.write_all(&[b'x'; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        };
        let (closed, sent) = tokio::join!(driving, sending);
        (closed.unread(), sent)
    }

    #[tokio::test(start_paused = true)]
    async fn a_malformed_head_and_a_large_head_differ_and_the_rest_is_read_for_a_while() {
        let large = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        for (begin, expected) in
            [("\0\r\n\r\n", Unread::Malformed), (large.as_str(), Unread::HeadTooLarge)]
        {
            let (unread, sent) = refused(begin.as_bytes(), false).await;
            assert_eq!(unread, Some(expected));
            assert!(sent >= 4 << 20, "{sent}");
        }
        assert_eq!(refused(b"GET / HT", true).await, (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_has_expired_before_it_is_set_ends_the_connection_at_once() {
        let state = state();
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        tokio::time::advance(Duration::from_secs(4)).await;
        for _ in 0..2 {
            let polled = poll_fn(|cx| Poll::Ready(poll_clocks(&state, timer.as_mut(), cx))).await;
            assert_eq!(polled, Poll::Ready(Ending::Header));
        }
        state.request_arrived();
        let polled = poll_fn(|cx| Poll::Ready(poll_clocks(&state, timer.as_mut(), cx))).await;
        assert_eq!(polled, Poll::Pending, "the handler has no timer here");
    }
}
