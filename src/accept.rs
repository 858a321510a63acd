//! Permit → accept → classify the error → back off → start. Generic over what it runs.

mod admission;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

pub use self::admission::{Admission, Evicted, HandshakePermit, Ticket};
use crate::{
    error::lacks_resources,
    metrics::{AcceptError, Metrics},
    peer::ANY_PEER,
    shutdown::Stage,
};

/// First pause after an error that will not go away at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause: how late a connection can be accepted after the resource is there again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections until the shutdown begins, then closes the listener.
///
/// `start` gets each connection with the [`Ticket`] that counts it; it must not block. At
/// `max-connections` further ones wait in the listener's backlog; above
/// `max-connections-per-ip` they are closed at once.
pub async fn accept_loop(
    listener: TcpListener,
    admission: Arc<Admission>,
    metrics: &Metrics,
    mut stage: watch::Receiver<Stage>,
    start: impl Fn(TcpStream, SocketAddr, Ticket),
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let next = async {
            let permit = admission.connection().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            _ = Stage::after(&mut stage, false) => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                pause = SHORTEST_PAUSE;
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
            Err(error) if concerns_one_connection(&error) => {
                metrics.not_accepted(AcceptError::ConnectionLost);
                tracing::debug!(target: ANY_PEER, %error, "connection lost before it was accepted");
            }
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
    use super::*;

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
