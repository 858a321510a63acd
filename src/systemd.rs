//! What the service manager is told (`sd_notify(3)`), and the socket that it may pass on
//! (`sd_listen_fds(3)`). Without one, or on another system, nothing of this does anything.

use std::{convert::Infallible, future::pending, io, net::TcpListener, pin::pin, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{sleep, timeout};

use crate::{server::Handle, trigger::Status};

/// How old the status line may get where no watchdog asks for more.
const STATUS_PERIOD: Duration = Duration::from_secs(15);

/// Why a socket that was passed on cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// One `ListenStream=` only.
    #[error("{0} sockets were passed on, and it takes one")]
    Several(usize),
    /// Another kind of socket, or no socket.
    #[error("what was passed on is no TCP socket")]
    NotTcp(#[source] io::Error),
    /// A connection.
    #[error("the socket that was passed on does not listen: it takes Accept=no")]
    NotListening,
}

/// The socket that was passed on, if there is one.
///
/// # Errors
/// See [`ActivationError`].
#[cfg(unix)]
pub fn listener() -> Result<Option<TcpListener>, ActivationError> {
    let mut passed_on = listenfd::ListenFd::from_env();
    if passed_on.len() > 1 {
        return Err(ActivationError::Several(passed_on.len()));
    }
    let listener = passed_on.take_tcp_listener(0).map_err(ActivationError::NotTcp)?;
    match &listener {
        Some(socket) if !socket2::SockRef::from(socket).is_listener().unwrap_or(false) => {
            Err(ActivationError::NotListening)
        }
        Some(_) | None => Ok(listener),
    }
}

/// None is passed on here.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn listener() -> Result<Option<TcpListener>, ActivationError> {
    Ok(None)
}

/// The service is up, and goes by what is in the files now or was before.
pub fn ready(handle: &Handle) {
    send(&Message::Ready(&status(handle)));
}

/// The files are being read again; [`ready`] has to follow.
pub fn reloading() {
    send(&Message::Reloading);
}

/// The drain begins.
pub fn stopping(handle: &Handle) {
    send(&Message::Stopping(&format!("draining, connections: {}", handle.connections())));
}

/// Says again and again how the service is, at twice the pace that the watchdog asks for, and says
/// nothing while a worker hangs. It runs in the acceptor's runtime, so that it does not outlive
/// that either.
pub async fn keep_told(handle: &Handle) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return pending().await;
    }
    let period = watchdog().map_or(STATUS_PERIOD, |limit| limit / 2);
    let pulse = handle.pulse();
    each(period, || pulse.beat(), || send(&Message::Alive(&status(handle)))).await
}

/// Calls `tell` each `period`, as soon as `beat` is through.
async fn each<F: Future<Output = ()>>(
    period: Duration,
    beat: impl Fn() -> F,
    tell: impl Fn(),
) -> Infallible {
    loop {
        sleep(period).await;
        let mut beat = pin!(beat());
        if timeout(period, beat.as_mut()).await.is_err() {
            tracing::error!(
                "a worker does not answer, so the watchdog is not told that all is well"
            );
            beat.await;
        }
        tell();
    }
}

/// One line for people, as `systemctl status` shows it.
fn status(handle: &Handle) -> String {
    let Status { successful, last_success } = handle.trigger().status();
    let since = OffsetDateTime::from(last_success);
    let since = since.replace_nanosecond(0).unwrap_or(since).format(&Rfc3339).unwrap_or_default();
    let refused = if successful { "" } else { "last reload refused, see the log; " };
    let (exporters, connections) = (handle.exporters(), handle.connections());
    format!("{refused}exporters: {exporters}, connections: {connections}, configured at {since}")
}

enum Message<'a> {
    Ready(&'a str),
    Reloading,
    Stopping(&'a str),
    Alive(&'a str),
}

#[cfg(unix)]
fn send(message: &Message<'_>) {
    use sd_notify::NotifyState;

    let states = match message {
        Message::Ready(status) => vec![NotifyState::Ready, NotifyState::Status(status)],
        Message::Reloading => {
            // Without the time, systemd takes it for a reload of before and waits on.
            let time = NotifyState::monotonic_usec_now().ok();
            [NotifyState::Reloading].into_iter().chain(time).collect()
        }
        Message::Stopping(status) => vec![NotifyState::Stopping, NotifyState::Status(status)],
        Message::Alive(status) => vec![NotifyState::Watchdog, NotifyState::Status(status)],
    };
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(%error, "the service manager is not told");
    }
}

#[cfg(not(unix))]
fn send(message: &Message<'_>) {
    match message {
        Message::Reloading => {}
        Message::Ready(status) | Message::Stopping(status) | Message::Alive(status) => {
            tracing::trace!(status);
        }
    }
}

/// How long the service manager waits for a sign of life.
fn watchdog() -> Option<Duration> {
    #[cfg(unix)]
    let limit = sd_notify::watchdog_enabled();
    #[cfg(not(unix))]
    let limit = None;
    limit.filter(|limit: &Duration| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{sync::Notify, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_while_a_worker_hangs() {
        let period = Duration::from_secs(5);
        let (hangs, answers, told) = (Cell::new(false), Notify::new(), Cell::new(0));
        let beat = || async {
            if hangs.get() {
                answers.notified().await;
            }
        };
        let mut telling = pin!(each(period, beat, || told.set(told.get() + 1)));
        let begun = Instant::now();
        let after = |periods: u32| begun + period * periods + Duration::from_millis(1);
        for periods in 1..=3 {
            let _ = tokio::time::timeout_at(after(periods), telling.as_mut()).await;
            assert_eq!(told.get(), periods);
        }
        hangs.set(true);
        let _ = tokio::time::timeout_at(after(100), telling.as_mut()).await;
        assert_eq!(told.get(), 3);
        hangs.set(false);
        answers.notify_one();
        let _ = tokio::time::timeout_at(after(101), telling.as_mut()).await;
        assert_eq!(told.get(), 5, "at once, and after another period");
    }
}
