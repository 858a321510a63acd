//! Permit → accept → classify the error → back off → start. Generic over what it runs.

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

pub use self::admission::{Admission, Evicted, HandshakePermit, Ticket};
use crate::{
    error::lacks_resources,
    metrics::{AcceptError, Metrics},
    peer::ANY_PEER,
    shutdown::Stage,
};

/// Most connections that wait to be accepted, from all addresses together. The system may allow
/// fewer (`net.core.somaxconn`; Linux has had 4096 since 5.4).
///
/// A full backlog drops what comes, and the client tries again after a second. A flood of 25 000
/// connections a second fills this one in 160 ms, which a busy machine may give to other threads.
pub const BACKLOG: u32 = 4096;

/// First pause after an error that will not go away at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause: how late a connection can be accepted after the resource is there again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections until the shutdown begins. Dropped, it has lost none.
///
/// `start` gets each connection with the [`Ticket`] that counts it; it must not block. At
/// `max-connections` further ones wait in the listener's backlog; above
/// `max-connections-per-ip` they are closed at once.
///
/// All addresses share the backlog, and only the speed at which it is emptied keeps a flood of one
/// from filling it. So a connection that its client closed without sending anything costs a few
/// system calls and `ended`, which counts it: no task, no handshake and no log record.
///
/// The streams are in non-blocking mode and belong to no runtime.
pub async fn accept_loop(
    listener: &TcpListener,
    admission: &Arc<Admission>,
    metrics: &Metrics,
    mut stage: watch::Receiver<Stage>,
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
            _ = Stage::after(&mut stage, false) => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                pause = SHORTEST_PAUSE;
                take_on((stream, address), permit, admission, metrics, &start);
            }
            Err(error) if concerns_one_connection(&error) => lost(&error, metrics),
            // Out of descriptors or memory, as a rule. The connection stays in the backlog, so
            // trying again at once would spin; it comes back by itself.
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
                    "cannot accept"
                );
                tokio::select! {
                    _ = Stage::after(&mut stage, false) => return,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Accepts what waits in the backlog of a listener that is about to be closed, at `max-connections`
/// no more. Waits for nothing.
pub fn accept_waiting(
    listener: &TcpListener,
    admission: &Arc<Admission>,
    metrics: &Metrics,
    ended: impl Fn(),
    start: impl Fn(TcpStream, SocketAddr, Ticket),
) {
    // No more than wait now: during a flood there is always one.
    for _ in 0..BACKLOG {
        let Some(permit) = admission.connection_now() else { return };
        match accept_now(listener) {
            Ok((stream, _)) if has_ended(&stream) => ended(),
            Ok(accepted) => take_on(accepted, permit, admission, metrics, &start),
            Err(error) if concerns_one_connection(&error) => lost(&error, metrics),
            // There is none, as a rule.
            Err(_) => return,
        }
    }
}

/// The next connection whose client has not closed it yet. Cancel safe.
async fn accept_alive(
    listener: &TcpListener,
    ended: impl Fn(),
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Others run on this thread too.
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

/// Past tokio, which has to be told first that there is one, and would watch it from this thread.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, address) = SockRef::from(listener).accept()?;
    let address = address.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok((stream, address))
}

/// Whether the client closed a connection on which it said nothing, or broke it off.
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
                "connection closed: max-connections-per-ip is reached"
            );
        }
    }
}

fn lost(error: &io::Error, metrics: &Metrics) {
    metrics.not_accepted(AcceptError::ConnectionLost);
    tracing::debug!(target: ANY_PEER, %error, "connection lost before it was accepted");
}

/// Errors of a connection that died in the backlog (accept(2): treat them like EAGAIN).
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
    use std::{cell::RefCell, num::NonZeroU32};

    use tokio::{io::AsyncWriteExt, net::TcpStream, task::yield_now, time::timeout};

    use super::*;

    #[tokio::test]
    async fn what_waits_is_accepted_up_to_max_connections_and_no_more_is_waited_for() {
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
        assert_eq!(accept(), 0, "nobody waits");
        let first = TcpStream::connect(address).await.expect("connected");
        let until_it_is_there = async {
            while accept() == 0 {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), until_it_is_there).await.expect("it is accepted");
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
        assert!(!has_ended(&talkative), "there is a byte to read");
    }

    #[test]
    fn only_a_connection_that_died_in_the_backlog_is_no_reason_to_wait() {
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
}
