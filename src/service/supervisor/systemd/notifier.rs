//! Notifications to the service manager (`sd_notify(3)`): the state, the status line and the watchdog.

#[cfg(unix)]
use std::sync::Arc;
use std::{convert::Infallible, future::pending};

#[cfg(unix)]
use sd_notify::NotifyState;
#[cfg(unix)]
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[cfg(unix)]
use super::{
    outbox::{Kind, Manager, Outbox},
    watchdog,
};
#[cfg(unix)]
use crate::common::reload::ReloadState;
use crate::service::server::Handle;

/// Sends the state of the service to the service manager. Does nothing without one, and never waits
/// for it. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Notifier {
    handle: Handle,
    #[cfg(unix)]
    outbox: Option<Arc<Outbox<Manager>>>,
}

impl Notifier {
    /// Notifies the service manager at `NOTIFY_SOCKET`, if that variable is set.
    #[must_use]
    pub fn from_env(handle: Handle) -> Self {
        #[cfg(unix)]
        let outbox = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let manager = Manager::at(&address).inspect_err(|error| {
                tracing::warn!(?address, %error, "invalid NOTIFY_SOCKET ignored");
            });
            Some(Arc::new(Outbox::new(manager.ok()?)))
        });
        Self {
            handle,
            #[cfg(unix)]
            outbox,
        }
    }

    /// Reports that the service is running, after the start or after a reload, even a failed one.
    pub fn ready(&self) {
        #[cfg(unix)]
        self.tell(Kind::Ready, &[NotifyState::Ready, NotifyState::Status(&status(&self.handle))]);
    }

    /// Reports that a reload has started. [`Notifier::ready`] must follow.
    pub fn reloading(&self) {
        #[cfg(unix)]
        match NotifyState::monotonic_usec_now() {
            // Without the time, systemd takes the message for an earlier reload and keeps waiting.
            Ok(time) => self.tell(Kind::Reloading, &[NotifyState::Reloading, time]),
            Err(_) => self.tell(Kind::Reloading, &[NotifyState::Reloading]),
        }
    }

    /// Reports that the drain has started. After that, only the watchdog is notified.
    pub fn stopping(&self) {
        #[cfg(unix)]
        {
            let status = format!("draining, connections: {}", self.handle.connections());
            self.tell(Kind::Stopping, &[NotifyState::Stopping, NotifyState::Status(&status)]);
        }
    }

    /// Sends the status and the watchdog notification, twice in each watchdog period. Sends nothing
    /// while a worker hangs. Must run in the acceptor's runtime, so that a hanging acceptor also
    /// stops the notifications.
    pub async fn keep_notified(&self) -> Infallible {
        #[cfg(unix)]
        if let Some(outbox) = &self.outbox {
            let liveness = self.handle.liveness();
            let alive = || {
                let status = status(&self.handle);
                outbox.mention(&text(&[NotifyState::Watchdog, NotifyState::Status(&status)]));
            };
            tokio::select! {
                never = watchdog::each(watchdog::period(), || liveness.check(), alive) => return never,
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

/// The status line that `systemctl status` shows.
#[cfg(unix)]
fn status(handle: &Handle) -> String {
    let ReloadState { last_failed, applied_at } = handle.reload_requests().state();
    let since = OffsetDateTime::from(applied_at);
    let since = since.replace_nanosecond(0).unwrap_or(since).format(&Rfc3339).unwrap_or_default();
    let failed = if last_failed { "last reload failed, see the log; " } else { "" };
    let (exporters, connections) = (handle.exporters(), handle.connections());
    format!(
        "{failed}exporters: {exporters}, connections: {connections}, configuration from {since}"
    )
}
