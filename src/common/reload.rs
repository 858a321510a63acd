//! Requests for a reload, and the one place that knows whether the last reload succeeded.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

/// Collects requests for a reload, answers those who wait for one, and has the [`ReloadState`].
///
/// Reloads run one after another. Clones share their state.
#[derive(Clone, Debug)]
pub struct ReloadRequests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The number of requests so far.
    requested: watch::Sender<u64>,
    served: watch::Sender<Served>,
    state: Mutex<ReloadState>,
}

#[derive(Clone, Copy, Debug)]
struct Served {
    /// Every request up to this number has been served.
    up_to: u64,
    /// How the last reload ended.
    outcome: ReloadOutcome,
}

/// How a reload ended, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The files were read and are in use.
    Applied,
    /// The files have errors or could not be read. The previous configuration stays in use.
    Rejected,
    /// The system refused a thread for reading the files. The previous configuration stays in use.
    NoResources,
    /// The server is shutting down. Nothing has changed.
    ShuttingDown,
}

/// The result of the last reload. The start counts as a reload. A reload that a shutdown canceled
/// does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadState {
    /// Whether the last reload failed, so that the configuration in use is an older one.
    pub last_failed: bool,
    /// When the configuration in use was applied.
    pub applied_at: SystemTime,
}

/// A reload in progress, to be passed to [`ReloadRequests::end`].
#[derive(Debug)]
#[must_use]
pub struct Round {
    up_to: u64,
}

impl Default for ReloadRequests {
    /// No request so far. The configuration counts as applied now.
    fn default() -> Self {
        Self(Arc::new(Shared {
            requested: watch::Sender::new(0),
            served: watch::Sender::new(Served { up_to: 0, outcome: ReloadOutcome::Applied }),
            state: Mutex::new(ReloadState { last_failed: false, applied_at: SystemTime::now() }),
        }))
    }
}

impl ReloadRequests {
    /// Requests a reload and does not wait for it. Returns the number of the request.
    pub fn request(&self) -> u64 {
        let mut number = 0;
        self.0.requested.send_modify(|requested| {
            *requested += 1;
            number = *requested;
        });
        number
    }

    /// Requests a reload and waits for the outcome of a reload that began after the request.
    /// Requests that arrive before a reload begins share that reload.
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn reload(&self) -> ReloadOutcome {
        let number = self.request();
        let mut served = self.0.served.subscribe();
        match served.wait_for(|served| served.up_to >= number).await {
            Ok(served) => served.outcome,
            // Unreachable, because `self` owns the sender.
            Err(_) => ReloadOutcome::ShuttingDown,
        }
    }

    /// Waits until a request has not been served yet. Cancel safe.
    pub async fn requested(&self) {
        let served = self.0.served.borrow().up_to;
        // An error is impossible, because `self` owns the sender.
        let _ = self.0.requested.subscribe().wait_for(|requested| *requested > served).await;
    }

    /// Begins a reload. It serves all requests so far.
    pub fn begin(&self) -> Round {
        Round { up_to: *self.0.requested.borrow() }
    }

    /// Ends a reload and reports its outcome to the requests that it serves.
    pub fn end(&self, round: Round, outcome: ReloadOutcome) {
        let Round { up_to } = round;
        self.0.served.send_replace(Served { up_to, outcome });
    }

    /// Notes that a configuration was applied at `now`.
    pub fn applied(&self, now: SystemTime) {
        *self.lock() = ReloadState { last_failed: false, applied_at: now };
    }

    /// Notes that a reload failed. The current configuration stays in use.
    pub fn failed(&self) {
        self.lock().last_failed = true;
    }

    /// The result of the last reload.
    #[must_use]
    pub fn state(&self) -> ReloadState {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, ReloadState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// The future's output, if the future is ready at its first poll.
    fn now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn each_request_waits_for_a_reload_that_began_after_it() {
        let requests = ReloadRequests::default();
        let (mut early, mut too) = (pin!(requests.reload()), pin!(requests.reload()));
        assert_eq!(now(early.as_mut()), None);
        assert_eq!(now(too.as_mut()), None);
        assert_eq!(now(pin!(requests.requested())), Some(()));
        let round = requests.begin();
        let mut late = pin!(requests.reload());
        assert_eq!(now(late.as_mut()), None);
        requests.end(round, ReloadOutcome::Rejected);
        assert_eq!(now(early), Some(ReloadOutcome::Rejected));
        assert_eq!(now(too), Some(ReloadOutcome::Rejected));
        assert_eq!(now(late.as_mut()), None, "this reload began before the request");

        assert_eq!(now(pin!(requests.requested())), Some(()));
        let round = requests.begin();
        requests.end(round, ReloadOutcome::Applied);
        assert_eq!(now(late), Some(ReloadOutcome::Applied));
        assert_eq!(now(pin!(requests.requested())), None, "all requests are served");
    }

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_last_success() {
        let requests = ReloadRequests::default();
        let before = requests.state();
        requests.failed();
        assert_eq!(requests.state(), ReloadState { last_failed: true, ..before });
        let now = before.applied_at + std::time::Duration::from_secs(1);
        requests.applied(now);
        assert_eq!(requests.state(), ReloadState { last_failed: false, applied_at: now });
    }

    #[test]
    fn f24_a_reload_that_a_shutdown_cancels_does_not_count_as_failed() {
        let requests = ReloadRequests::default();
        let before = requests.state();
        let mut asks = pin!(requests.reload());
        assert_eq!(now(asks.as_mut()), None);
        requests.end(requests.begin(), ReloadOutcome::ShuttingDown);
        assert_eq!(now(asks), Some(ReloadOutcome::ShuttingDown));
        assert_eq!(requests.state(), before);
    }
}
