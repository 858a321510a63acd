//! Handshakes take turns, so that a flood of them does not keep scrapes waiting.
//!
//! A worker polls what is ready in the order it became so. With an RSA key a server's part of a
//! handshake takes milliseconds of it, and behind a hundred of them each step of a scrape would
//! wait that long a hundred times. So few are ready at a time, whatever their number.
//!
//! Turns go round by address. One address that sends more handshakes than the processors can do
//! waits for its own turns; another address waits for one turn of each.

use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::task::yield_now;

use crate::{fair::FairSemaphore, peer::Host};

/// See the module's documentation.
#[derive(Debug)]
pub struct Turns(Arc<FairSemaphore<Host>>);

impl Turns {
    /// So many at a time: one for each processor keeps them all busy.
    #[must_use]
    pub fn new(at_a_time: NonZeroUsize) -> Self {
        // How many can wait is bounded by `max-handshakes`.
        Self(FairSemaphore::new(at_a_time.get(), usize::MAX))
    }

    /// Runs `work` of `host`, and has it wait for its turn before each step: each poll, as none
    /// blocks. It has no turn while it waits for anything else, its peer above all. Cancel safe if
    /// `work` is.
    pub async fn take<F: Future>(&self, host: Host, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            // The queue is never full.
            let turn = self.0.acquire(host).await;
            // While tasks are ready, tokio looks for ready sockets only every 61 polls; for a task that
            // yields it looks first.
            yield_now().await;
            let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(turn);
            // No wait may come between: whoever has the waker may have used it by now.
            if let Poll::Ready(output) = step {
                return output;
            }
            woken().await;
        }
    }
}

/// Waits until the task is woken, by whatever has its waker.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        cell::Cell,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::sync::oneshot;

    use super::*;

    fn host(number: u8) -> Host {
        Host::of([192, 0, 2, number].into())
    }

    #[tokio::test]
    async fn a_task_that_is_not_among_them_waits_for_one_of_them_at_most() {
        let turns = Arc::new(Turns::new(NonZeroUsize::MIN));
        let steps = Arc::new(AtomicUsize::new(0));
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (turns, steps) = (Arc::clone(&turns), Arc::clone(&steps));
                tokio::spawn(async move {
                    let step = async {
                        steps.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                        steps.fetch_add(1, Ordering::Relaxed);
                    };
                    turns.take(host(1), step).await;
                })
            })
            .collect();
        // All of them have come to their first wait.
        yield_now().await;
        let mut before = steps.load(Ordering::Relaxed);
        while before < 200 {
            yield_now().await;
            let now = steps.load(Ordering::Relaxed);
            assert!(now - before <= 1, "{} steps before one of another's", now - before);
            before = now;
        }
        for task in crowd {
            task.await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn no_more_of_them_step_at_once_than_there_are_turns() {
        const MOST: usize = 3;
        let turns = Arc::new(Turns::new(NonZeroUsize::new(MOST).unwrap()));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
                let mut steps = 0;
                tokio::spawn(async move {
                    let work = poll_fn(move |cx| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        // As cryptography does.
                        std::thread::sleep(std::time::Duration::from_micros(200));
                        now.fetch_sub(1, Ordering::SeqCst);
                        steps += 1;
                        cx.waker().wake_by_ref();
                        if steps < 3 { Poll::Pending } else { Poll::Ready(()) }
                    });
                    turns.take(host(1), work).await;
                })
            })
            .collect();
        for task in crowd {
            task.await.unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!((1..=MOST).contains(&most), "{most} at once");
    }

    #[tokio::test]
    async fn who_waits_for_something_else_has_no_turn() {
        let turns = Turns::new(NonZeroUsize::MIN);
        let (answer, question) = oneshot::channel();
        let done = Cell::new(false);
        tokio::join!(
            async {
                turns.take(host(1), question).await.unwrap();
                assert!(done.get());
            },
            async {
                turns.take(host(1), async { done.set(true) }).await;
                answer.send(()).unwrap();
            },
        );
    }

    #[tokio::test]
    async fn who_waits_is_polled_again_when_it_is_woken_and_not_before() {
        let (answer, mut question) = oneshot::channel();
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polls);
        let asking = tokio::spawn(async move {
            let turns = Turns::new(NonZeroUsize::MIN);
            let question = poll_fn(|cx| {
                counter.fetch_add(1, Ordering::Relaxed);
                Pin::new(&mut question).poll(cx)
            });
            turns.take(host(1), question).await
        });
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        answer.send(()).unwrap();
        asking.await.unwrap().unwrap();
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn f07_a_handshake_beside_hundreds_of_another_address_waits_for_one_of_its_steps() {
        let turns = Arc::new(Turns::new(NonZeroUsize::MIN));
        let steps = Arc::new(AtomicUsize::new(0));
        let flood: Vec<_> = (0..300)
            .map(|_| {
                let (turns, steps) = (Arc::clone(&turns), Arc::clone(&steps));
                tokio::spawn(turns_of(turns, host(9), move || {
                    steps.fetch_add(1, Ordering::Relaxed);
                }))
            })
            .collect();
        // All of them have come to their first wait.
        yield_now().await;
        for _ in 0..3 {
            let before = steps.load(Ordering::Relaxed);
            let counter = Arc::clone(&steps);
            let seen = Arc::new(AtomicUsize::new(0));
            let at = Arc::clone(&seen);
            turns_of(Arc::clone(&turns), host(1), move || {
                at.store(counter.load(Ordering::Relaxed), Ordering::Relaxed);
            })
            .await;
            let waited = seen.load(Ordering::Relaxed) - before;
            // The one that has the turn, and the one that is granted the next in the same moment.
            assert!(waited <= 2, "{waited} steps of the flood");
        }
        for task in flood {
            task.await.unwrap();
        }
    }

    /// A handshake of one step.
    async fn turns_of(turns: Arc<Turns>, host: Host, step: impl FnOnce()) {
        turns.take(host, async { step() }).await;
    }
}
