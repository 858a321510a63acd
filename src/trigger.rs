//! Asking for a reload, from wherever, and hearing what came of it.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

/// Asks for reloads, and carries them out one after the other. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// How often one was asked for.
    asked: watch::Sender<u64>,
    done: watch::Sender<Done>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    /// Everyone who had asked by then has been served.
    asked: u64,
    outcome: Outcome,
    status: Status,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is in the files is in use.
    Applied,
    /// What is in the files cannot be used, or could not be read. What was in use stays.
    Rejected,
    /// The system refused a thread to read the files with. What was in use stays.
    NoResources,
    /// The server is shutting down, and nothing has changed.
    ShuttingDown,
}

/// How the last reload went that was not overtaken by a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether what is in the files is in use. The start counts as a reload.
    pub successful: bool,
    /// When what is in use was taken over.
    pub last_success: SystemTime,
}

/// A reload that has begun, and has to be given back to [`Trigger::end`].
#[derive(Debug)]
#[must_use]
pub struct Round {
    asked: u64,
}

impl Default for Trigger {
    /// Nobody has asked, and what is in use was taken over right now.
    fn default() -> Self {
        let status = Status { successful: true, last_success: SystemTime::now() };
        Self(Arc::new(Shared {
            asked: watch::Sender::new(0),
            done: watch::Sender::new(Done { asked: 0, outcome: Outcome::Applied, status }),
        }))
    }
}

impl Trigger {
    /// Asks for a reload and does not wait for it.
    pub fn pull(&self) -> u64 {
        let mut number = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    /// Asks for a reload and waits for the outcome of one that began after that; with others who
    /// ask meanwhile it is the same. Dropped, it has asked all the same.
    pub async fn reload(&self) -> Outcome {
        let number = self.pull();
        let mut done = self.0.done.subscribe();
        match done.wait_for(|done| done.asked >= number).await {
            Ok(done) => done.outcome,
            // Its sender is in `self`.
            Err(_) => Outcome::ShuttingDown,
        }
    }

    /// How the last one went.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.done.borrow().status
    }

    /// Waits until someone asks who was not served yet. Cancel safe.
    pub async fn pulled(&self) {
        let served = self.0.done.borrow().asked;
        // Its sender is in `self`.
        let _ = self.0.asked.subscribe().wait_for(|asked| *asked > served).await;
    }

    /// Begins a reload, which serves all who have asked up to now.
    pub fn begin(&self) -> Round {
        Round { asked: *self.0.asked.borrow() }
    }

    /// Ends it and tells them.
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

    /// Whether the future is ready when it is looked at once.
    fn now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn each_hears_of_a_reload_that_began_after_it_asked() {
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
        assert_eq!(now(late.as_mut()), None, "that one had begun");

        assert_eq!(now(pin!(trigger.pulled())), Some(()));
        let round = trigger.begin();
        trigger.end(round, Outcome::Applied);
        assert_eq!(now(late), Some(Outcome::Applied));
        assert!(trigger.status().successful);
        assert_eq!(now(pin!(trigger.pulled())), None, "all are served");
    }

    #[test]
    fn a_reload_that_fails_keeps_the_time_of_the_last_that_did_not() {
        let trigger = Trigger::default();
        let before = trigger.status();
        for outcome in [Outcome::Rejected, Outcome::NoResources] {
            trigger.end(trigger.begin(), outcome);
            assert_eq!(trigger.status(), Status { successful: false, ..before });
        }
    }

    #[test]
    fn f24_a_reload_that_a_shutdown_overtakes_was_not_refused() {
        let trigger = Trigger::default();
        let before = trigger.status();
        let mut asks = pin!(trigger.reload());
        assert_eq!(now(asks.as_mut()), None);
        trigger.end(trigger.begin(), Outcome::ShuttingDown);
        assert_eq!(now(asks), Some(Outcome::ShuttingDown));
        assert_eq!(trigger.status(), before);
    }
}
