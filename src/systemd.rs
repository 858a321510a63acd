//! What the service manager is told (`sd_notify(3)`), and the socket that it may pass on
//! (`sd_listen_fds(3)`). Without one, or on another system, nothing of this does anything.

#[cfg(unix)]
mod notify;

use std::{convert::Infallible, future::pending, io, net::TcpListener};
#[cfg(unix)]
use std::{pin::pin, sync::Arc, time::Duration};

#[cfg(unix)]
use sd_notify::NotifyState;
#[cfg(unix)]
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
#[cfg(unix)]
use tokio::time::{sleep, timeout};

#[cfg(unix)]
use self::notify::{Kind, Manager, Outbox};
use crate::server::Handle;
#[cfg(unix)]
use crate::trigger::Status;

/// How old the status line may get where no watchdog asks for more.
#[cfg(unix)]
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

/// Tells the service manager how the service is. Without one it does nothing, and it never waits for
/// one. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Notifier {
    handle: Handle,
    #[cfg(unix)]
    outbox: Option<Arc<Outbox<Manager>>>,
}

impl Notifier {
    /// To the service manager that `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_env(handle: Handle) -> Self {
        #[cfg(unix)]
        let outbox = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let manager = Manager::at(&address).inspect_err(|error| {
                tracing::warn!(?address, %error, "NOTIFY_SOCKET is ignored");
            });
            Some(Arc::new(Outbox::new(manager.ok()?)))
        });
        Self {
            handle,
            #[cfg(unix)]
            outbox,
        }
    }

    /// The service is up, and goes by what is in the files now or was before.
    pub fn ready(&self) {
        #[cfg(unix)]
        self.tell(Kind::Ready, &[NotifyState::Ready, NotifyState::Status(&status(&self.handle))]);
    }

    /// The files are being read again; [`Notifier::ready`] has to follow.
    pub fn reloading(&self) {
        #[cfg(unix)]
        match NotifyState::monotonic_usec_now() {
            // Without the time, systemd takes it for a reload of before and waits on.
            Ok(time) => self.tell(Kind::Reloading, &[NotifyState::Reloading, time]),
            Err(_) => self.tell(Kind::Reloading, &[NotifyState::Reloading]),
        }
    }

    /// The drain begins. Nothing but signs of life is told after that.
    pub fn stopping(&self) {
        #[cfg(unix)]
        {
            let status = format!("draining, connections: {}", self.handle.connections());
            self.tell(Kind::Stopping, &[NotifyState::Stopping, NotifyState::Status(&status)]);
        }
    }

    /// Says again and again how the service is, at twice the pace that the watchdog asks for, and
    /// says nothing while a worker hangs. It runs in the acceptor's runtime, so that it does not
    /// outlive that either.
    pub async fn keep_told(&self) -> Infallible {
        #[cfg(unix)]
        if let Some(outbox) = &self.outbox {
            let period = watchdog().map_or(STATUS_PERIOD, |limit| limit / 2);
            let pulse = self.handle.pulse();
            let alive = || {
                let status = status(&self.handle);
                outbox.mention(&text(&[NotifyState::Watchdog, NotifyState::Status(&status)]));
            };
            tokio::select! {
                never = each(period, || pulse.beat(), alive) => return never,
                never = outbox.send_again() => match never {},
            }
        }
        pending().await
    }

    #[cfg(unix)]
    fn tell(&self, kind: Kind, states: &[NotifyState<'_>]) {
        if let Some(outbox) = &self.outbox {
            outbox.tell(kind, text(states));
        }
    }
}

#[cfg(unix)]
fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

/// Calls `tell` each `period`, as soon as `beat` is through.
#[cfg(unix)]
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
#[cfg(unix)]
fn status(handle: &Handle) -> String {
    let Status { successful, last_success } = handle.trigger().status();
    let since = OffsetDateTime::from(last_success);
    let since = since.replace_nanosecond(0).unwrap_or(since).format(&Rfc3339).unwrap_or_default();
    let refused = if successful { "" } else { "last reload refused, see the log; " };
    let (exporters, connections) = (handle.exporters(), handle.connections());
    format!("{refused}exporters: {exporters}, connections: {connections}, configured at {since}")
}

/// How long the service manager waits for a sign of life.
#[cfg(unix)]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

#[cfg(all(test, unix))]
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
