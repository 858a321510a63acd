//! Accepts connections: take a permit, accept, classify the error, back off, start the connection.
//! Generic over what it starts.

mod admission;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, watch},
    task::consume_budget,
    time::sleep,
};

pub use self::admission::{Admission, Evicted, Eviction, HandshakePermit, Ticket};
use super::socket::BACKLOG;
use crate::{
    common::{error::lacks_resources, peer::ANY_PEER, shutdown::ShutdownPhase},
    http::metrics::{AcceptError, Metrics},
};

/// First pause after an error that is likely to persist, such as a lack of file descriptors.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause. Once resources are available again, a connection waits at most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections until the shutdown begins.
///
/// `start` gets each connection with the [`Ticket`] that counts the connection. `start` must not
/// block. At `max-connections`, further connections wait in the listener's backlog. Above
/// `max-connections-per-ip`, further connections of that address are closed at once.
///
/// All addresses share the backlog. Only fast accepts keep a flood from one address from filling
/// the backlog. Therefore a connection that its client has closed without sending anything costs
/// only a few system calls: `ended` counts it, and there is no task, no handshake and no log
/// record.
///
/// The streams are in non-blocking mode and are not registered with a runtime.
///
/// Dropping the future loses no connection: connections that are not accepted yet stay in the
/// backlog.
pub async fn accept_loop(
    listener: &TcpListener,
    admission: &Arc<Admission>,
    metrics: &Metrics,
    mut shutdown: watch::Receiver<ShutdownPhase>,
    ended: impl Fn(),
    start: impl Fn(TcpStream, SocketAddr, Ticket),
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let next = async {
            let permit = admission.connection().await;
            (accept_alive(listener, &ended).await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            _ = ShutdownPhase::Serving.next(&mut shutdown) => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                pause = SHORTEST_PAUSE;
                take_on((stream, address), permit, admission, metrics, &start);
            }
            Err(error) if concerns_one_connection(&error) => lost(&error, metrics),
            // Usually out of file descriptors or memory. The connection stays in the backlog, so an
            // immediate retry would spin. The retry after the pause finds the same connection.
            Err(error) => {
                metrics.not_accepted(if lacks_resources(&error) {
                    AcceptError::NoResources
                } else {
                    AcceptError::Other
                });
                tracing::error!(
                    target: ANY_PEER,
                    %error,
                    pause_seconds = pause.as_secs_f64(),
                    "cannot accept connections; retrying after a pause"
                );
                tokio::select! {
                    _ = ShutdownPhase::Serving.next(&mut shutdown) => return,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Accepts the connections that wait in the backlog of a listener that is about to be closed, up to
/// `max-connections`. Does not wait for further connections.
pub fn accept_waiting(
    listener: &TcpListener,
    admission: &Arc<Admission>,
    metrics: &Metrics,
    ended: impl Fn(),
    start: impl Fn(TcpStream, SocketAddr, Ticket),
) {
    // A flood always has one more connection waiting. Stop after one full backlog.
    for _ in 0..BACKLOG {
        let Some(permit) = admission.connection_now() else { return };
        match accept_now(listener) {
            Ok((stream, _)) if has_ended(&stream) => ended(),
            Ok(accepted) => take_on(accepted, permit, admission, metrics, &start),
            Err(error) if concerns_one_connection(&error) => lost(&error, metrics),
            // Usually because the backlog is empty.
            Err(_) => return,
        }
    }
}

/// Returns the next connection that its client has not closed yet. Cancel safe.
async fn accept_alive(
    listener: &TcpListener,
    ended: impl Fn(),
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Lets the other tasks of this thread run during a flood.
        consume_budget().await;
        let accepted = match accept_now(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (stream, address) = listener.accept().await?;
                (stream.into_std()?, address)
            }
            accepted => accepted?,
        };
        if !has_ended(&accepted.0) {
            return Ok(accepted);
        }
        ended();
    }
}

/// Calls accept(2) directly. tokio's `accept` first waits for readiness, and then registers the
/// stream with the runtime of this thread.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, address) = SockRef::from(listener).accept()?;
    let address = address.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok((stream, address))
}

/// Whether the client has reset the connection, or has closed it without sending anything.
fn has_ended(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => {
            !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        }
    }
}

fn take_on(
    (stream, address): (TcpStream, SocketAddr),
    permit: OwnedSemaphorePermit,
    admission: &Arc<Admission>,
    metrics: &Metrics,
    start: impl Fn(TcpStream, SocketAddr, Ticket),
) {
    match admission.admit(address.ip(), permit) {
        Some(ticket) => start(stream, address, ticket),
        None => {
            metrics.not_accepted(AcceptError::PerIpLimit);
            tracing::warn!(
                target: ANY_PEER,
                peer = %address,
                "closing connection: max-connections-per-ip reached"
            );
        }
    }
}

fn lost(error: &io::Error, metrics: &Metrics) {
    metrics.not_accepted(AcceptError::ConnectionLost);
    tracing::debug!(target: ANY_PEER, %error, "connection lost before it was accepted");
}

/// Whether only this one connection failed, while it waited in the backlog. accept(2) says to treat
/// these errors like `EAGAIN`.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::Future as _,
        num::NonZeroU32,
        pin::pin,
        sync::atomic::{AtomicBool, Ordering},
        task::{Context, Waker},
    };

    use tokio::{
        io::AsyncWriteExt,
        net::TcpStream,
        task::yield_now,
        time::{advance, timeout},
    };

    use super::*;
    use crate::{common::reload::ReloadRequests, http::metrics::Format};

    /// Limits that nothing reaches.
    fn unlimited() -> Arc<Admission> {
        let many = NonZeroU32::MAX;
        Admission::new(many, many, many)
    }

    /// How many connections were lost in the backlog, and how many other errors there were.
    fn errors(metrics: &Metrics) -> (u64, u64) {
        let reload = ReloadRequests::default().state();
        let page = metrics.render(None, reload, Format::Text, std::time::Instant::now());
        let count = |kind| {
            let series = format!("scrapegate_accept_errors_total{{kind=\"{kind}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(series.as_str()));
            value.expect("a series").parse().expect("a number")
        };
        (count("connection_lost"), count("other"))
    }

    #[tokio::test]
    async fn waiting_connections_are_accepted_up_to_max_connections_without_waiting_for_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let many = NonZeroU32::MAX;
        let admission = Admission::new(NonZeroU32::MIN, many, many);
        let (metrics, started) = (Metrics::default(), RefCell::new(Vec::new()));
        let accept = || {
            accept_waiting(
                &listener,
                &admission,
                &metrics,
                || {},
                |_, peer, ticket| {
                    started.borrow_mut().push((peer, ticket));
                },
            );
            started.borrow().len()
        };
        assert_eq!(accept(), 0, "no connection waits");
        let first = TcpStream::connect(address).await.expect("connected");
        let until_it_arrives = async {
            while accept() == 0 {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), until_it_arrives)
            .await
            .expect("the connection is accepted");
        assert_eq!(started.borrow()[0].0, first.local_addr().expect("an address"));
        let _second = TcpStream::connect(address).await.expect("connected");
        assert_eq!(accept(), 1, "there is room for one");
    }

    #[tokio::test]
    async fn f27_a_connection_has_ended_when_it_was_closed_and_nothing_is_left_to_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let accept = async || {
            let client = TcpStream::connect(address).await.expect("connected");
            (accept_alive(&listener, || {}).await.expect("accepted").0, client)
        };
        let (open, _client) = accept().await;
        let (talkative, mut client) = accept().await;
        client.write_all(b"x").await.expect("sent");
        drop(client);
        let (silent, client) = accept().await;
        drop(client);
        let until_it_is_known = async {
            while !has_ended(&silent) {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), until_it_is_known).await.expect("it has ended");
        assert!(!has_ended(&open), "nobody closed it");
        assert!(!has_ended(&talkative), "one byte is unread");
    }

    #[test]
    fn only_errors_of_a_single_connection_are_retried_without_a_pause() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionAborted, true),
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::Interrupted, true),
            (io::ErrorKind::TimedOut, true),
            (io::ErrorKind::OutOfMemory, false),
            (io::ErrorKind::Other, false),
        ] {
            assert_eq!(concerns_one_connection(&kind.into()), expected, "{kind}");
        }
    }

    #[tokio::test]
    async fn f27_of_the_waiting_connections_those_that_have_ended_are_only_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (admission, metrics, ended) = (unlimited(), Metrics::default(), Cell::new(0));
        let until_an_end_arrives_in_time = async {
            while ended.get() == 0 {
                drop(TcpStream::connect(address).await.expect("connected"));
                let count = || ended.set(ended.get() + 1);
                accept_waiting(&listener, &admission, &metrics, count, |_, _, _| {});
            }
        };
        timeout(Duration::from_secs(10), until_an_end_arrives_in_time).await.expect("it has ended");
        assert_eq!(errors(&metrics), (0, 0), "an empty backlog is no error");
    }

    #[tokio::test(start_paused = true)]
    async fn after_each_lasting_error_the_pause_doubles_up_to_a_second() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        // accept(2) fails, because the socket does not listen.
        let listener = TcpListener::from_std(socket.into()).expect("a runtime");
        let (admission, metrics) = (unlimited(), Metrics::default());
        let (_shutdown, phase) = watch::channel(ShutdownPhase::Serving);
        let start = |_, _, _| panic!("nobody connects");
        let mut accepting = pin!(accept_loop(&listener, &admission, &metrics, phase, || {}, start));
        let mut failed = || {
            let poll = accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
            errors(&metrics)
        };
        assert_eq!(failed(), (0, 1));
        let pauses = [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000];
        for (before, millis) in (1..).zip(pauses) {
            advance(Duration::from_millis(millis - 1)).await;
            assert_eq!(failed(), (0, before), "the pause takes {millis} ms");
            advance(Duration::from_millis(1)).await;
            assert_eq!(failed(), (0, before + 1), "the pause takes {millis} ms");
        }
    }

    /// Interrupts the calls of this thread that wait, again and again until it is dropped.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    struct Interrupts {
        _timer: nix::sys::timer::Timer,
        /// Without a handler, the kernel would ignore the signal.
        _handler: tokio::signal::unix::Signal,
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    impl Interrupts {
        fn begin() -> Self {
            use nix::sys::{
                signal::{SigEvent, SigevNotify, Signal},
                timer::{Expiration, Timer, TimerSetTimeFlags},
            };
            use tokio::signal::unix::{SignalKind, signal};

            let handler = signal(SignalKind::window_change()).expect("a handler");
            let thread_id = nix::unistd::gettid().as_raw();
            let signal = Signal::SIGWINCH;
            let event =
                SigEvent::new(SigevNotify::SigevThreadId { signal, thread_id, si_value: 0 });
            let clock = nix::time::ClockId::CLOCK_MONOTONIC;
            let mut timer = Timer::new(clock, event).expect("a timer");
            let each = Expiration::Interval(Duration::from_millis(1).into());
            timer.set(each, TimerSetTimeFlags::empty()).expect("a timer that runs");
            Self { _timer: timer, _handler: handler }
        }
    }

    /// Linux reports no lost connection, so an interrupted accept(2) stands for one: it counts as the
    /// same. The listener blocks, and its timeout makes the kernel return `EINTR` (signal(7)).
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn a_lost_connection_is_counted_and_the_next_one_is_accepted_without_a_pause() {
        for is_closing in [false, true] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bound");
            let address = listener.local_addr().expect("an address");
            let socket = SockRef::from(&listener);
            socket.set_nonblocking(false).expect("a socket that blocks");
            socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
            let (metrics, is_over) = (Metrics::default(), AtomicBool::new(false));
            let admission = Admission::new(NonZeroU32::MIN, NonZeroU32::MIN, NonZeroU32::MIN);
            let (shutdown, phase) = watch::channel(ShutdownPhase::Serving);
            let started = RefCell::new(Vec::new());
            let start = |_, _, ticket| {
                started.borrow_mut().push(ticket);
                shutdown.send_replace(ShutdownPhase::Draining);
            };
            let entered = runtime.enter();
            let interrupts = Interrupts::begin();
            std::thread::scope(|scope| {
                let connecting = scope.spawn(|| {
                    while errors(&metrics) == (0, 0) && !is_over.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    std::net::TcpStream::connect(address)
                });
                let accepting = async {
                    if is_closing {
                        accept_waiting(&listener, &admission, &metrics, || {}, start);
                    } else {
                        accept_loop(&listener, &admission, &metrics, phase, || {}, start).await;
                    }
                };
                let limit = Duration::from_secs(10);
                let _ = runtime.block_on(async { timeout(limit, accepting).await });
                is_over.store(true, Ordering::Relaxed);
                connecting.join().expect("no panic").expect("connected");
            });
            drop((interrupts, entered));
            let (lost, other) = errors(&metrics);
            assert!(lost > 0 && other == 0, "{lost} lost, {other} other errors, {is_closing}");
            assert_eq!(started.borrow().len(), 1, "{is_closing}");
        }
    }
}
