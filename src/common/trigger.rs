//! Requests for a reload, and their outcome.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

/// Collects requests for a reload and reports the outcome to those who wait for it.
///
/// Reloads run one after another. Clones share their state.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The number of requests so far.
    asked: watch::Sender<u64>,
    done: watch::Sender<Done>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    /// Every request up to this number has been served.
    asked: u64,
    outcome: Outcome,
    status: Status,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The files were read and are in use.
    Applied,
    /// The files have errors or could not be read. The previous configuration stays in use.
    Rejected,
    /// The system refused a thread for reading the files. The previous configuration stays in use.
    NoResources,
    /// The server is shutting down. Nothing has changed.
    ShuttingDown,
}

/// The result of the last reload. Reloads that a shutdown canceled do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the last reload was applied. The start counts as a reload.
    pub successful: bool,
    /// When the configuration in use was applied.
    pub last_success: SystemTime,
}

/// A reload in progress, to be passed to [`Trigger::end`].
#[derive(Debug)]
#[must_use]
pub struct Round {
    asked: u64,
}

impl Default for Trigger {
    /// No request so far. The configuration counts as applied now.
    fn default() -> Self {
        let status = Status { successful: true, last_success: SystemTime::now() };
        Self(Arc::new(Shared {
            asked: watch::Sender::new(0),
            done: watch::Sender::new(Done { asked: 0, outcome: Outcome::Applied, status }),
        }))
    }
}

impl Trigger {
    /// Requests a reload and does not wait for it. Returns the number of the request.
    pub fn pull(&self) -> u64 {
        let mut number = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    /// Requests a reload and waits for the outcome of a reload that began after the request.
    /// Requests that arrive before a reload begins share that reload.
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn reload(&self) -> Outcome {
        let number = self.pull();
        let mut done = self.0.done.subscribe();
        match done.wait_for(|done| done.asked >= number).await {
            Ok(done) => done.outcome,
            // Unreachable, because `self` owns the sender.
            Err(_) => Outcome::ShuttingDown,
        }
    }

    /// The result of the last reload.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.done.borrow().status
    }

    /// Waits until a request has not been served yet. Cancel safe.
    pub async fn pulled(&self) {
        let served = self.0.done.borrow().asked;
        // An error is impossible, because `self` owns the sender.
        let _ = self.0.asked.subscribe().wait_for(|asked| *asked > served).await;
    }

    /// Begins a reload. It serves all requests so far.
    pub fn begin(&self) -> Round {
        Round { asked: *self.0.asked.borrow() }
    }

    /// Ends a reload and reports its outcome to the requests that it serves.
    pub fn end(&self, round: Round, outcome: Outcome) {
        let Round { asked } = round;
        let before = self.status();
        let status = match outcome {
            Outcome::Applied => Status { successful: true, last_success: SystemTime::now() },
            Outcome::Rejected | Outcome::NoResources => Status { successful: false, ..before },
            Outcome::ShuttingDown => before,
        };
        self.0.done.send_replace(Done { asked, outcome, status });
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
        let trigger = Trigger::default();
        let (mut early, mut too) = (pin!(trigger.reload()), pin!(trigger.reload()));
        assert_eq!(now(early.as_mut()), None);
        assert_eq!(now(too.as_mut()), None);
        assert_eq!(now(pin!(trigger.pulled())), Some(()));
        let round = trigger.begin();
        let mut late = pin!(trigger.reload());
        assert_eq!(now(late.as_mut()), None);
        trigger.end(round, Outcome::Rejected);
        assert_eq!(now(early), Some(Outcome::Rejected));
        assert_eq!(now(too), Some(Outcome::Rejected));
        assert_eq!(now(late.as_mut()), None, "this reload began before the request");

        assert_eq!(now(pin!(trigger.pulled())), Some(()));
        let round = trigger.begin();
        trigger.end(round, Outcome::Applied);
        assert_eq!(now(late), Some(Outcome::Applied));
        assert!(trigger.status().successful);
        assert_eq!(now(pin!(trigger.pulled())), None, "all requests are served");
    }

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_last_success() {
        let trigger = Trigger::default();
        let before = trigger.status();
        for outcome in [Outcome::Rejected, Outcome::NoResources] {
            trigger.end(trigger.begin(), outcome);
            assert_eq!(trigger.status(), Status { successful: false, ..before });
        }
    }

    #[test]
    fn f24_a_reload_that_a_shutdown_cancels_does_not_count_as_failed() {
        let trigger = Trigger::default();
        let before = trigger.status();
        let mut asks = pin!(trigger.reload());
        assert_eq!(now(asks.as_mut()), None);
        trigger.end(trigger.begin(), Outcome::ShuttingDown);
        assert_eq!(now(asks), Some(Outcome::ShuttingDown));
        assert_eq!(trigger.status(), before);
    }
}
