//! Handshakes take turns, so that a flood of handshakes does not delay scrapes.
//!
//! A worker polls tasks in the order in which they became ready. With an RSA key, the server's part
//! of a handshake takes milliseconds. Behind a hundred handshakes, each step of a scrape would wait
//! a hundred times that long. So only a few handshakes are ready at a time, however many are in
//! progress.
//!
//! Addresses take turns too. An address that sends more handshakes than the processors can handle
//! waits for its own turns. Another address waits for at most one turn of each of the others.

use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::task::yield_now;

use crate::common::{fair::FairSemaphore, peer::Host};

/// Permits for the steps of handshakes. See the module's documentation.
#[derive(Debug)]
pub struct HandshakeLimiter(Arc<FairSemaphore<Host>>);

impl HandshakeLimiter {
    /// Allows `at_a_time` handshakes to work at a time. One for each processor keeps all processors
    /// busy.
    #[must_use]
    pub fn new(at_a_time: NonZeroUsize) -> Self {
        // `max-handshakes` limits how many can wait.
        Self(FairSemaphore::new(at_a_time.get(), usize::MAX))
    }

    /// Runs `work` of `host`, and waits for a turn before each step. A step is one poll. None
    /// blocks. While `work` waits for something else, such as its peer, it has no turn.
    ///
    /// Cancel safe if `work` is.
    pub async fn run<F: Future>(&self, host: Host, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            // An error is impossible, because the queue is unlimited.
            let turn = self.0.acquire(host).await;
            // While tasks are ready, tokio looks for ready sockets only every 61 polls. After a
            // task yields, tokio looks for them first.
            yield_now().await;
            let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(turn);
            // No await may come between the poll and this check: the waker may have been used
            // already.
            if let Poll::Ready(output) = step {
                return output;
            }
            woken().await;
        }
    }
}

/// Waits until any holder of its waker wakes the task.
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
    async fn another_task_waits_for_at_most_one_handshake() {
        let limiter = Arc::new(HandshakeLimiter::new(NonZeroUsize::MIN));
        let steps = Arc::new(AtomicUsize::new(0));
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (limiter, steps) = (Arc::clone(&limiter), Arc::clone(&steps));
                tokio::spawn(async move {
                    let step = async {
                        steps.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                        steps.fetch_add(1, Ordering::Relaxed);
                    };
                    limiter.run(host(1), step).await;
                })
            })
            .collect();
        // All of them are at their first await.
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
    async fn at_most_as_many_handshakes_work_at_once_as_there_are_turns() {
        const MOST: usize = 3;
        let limiter = Arc::new(HandshakeLimiter::new(NonZeroUsize::new(MOST).unwrap()));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (limiter, now, most) =
                    (Arc::clone(&limiter), Arc::clone(&now), Arc::clone(&most));
                let mut steps = 0;
                tokio::spawn(async move {
                    let work = poll_fn(move |cx| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        // Blocks, as cryptography does.
                        std::thread::sleep(std::time::Duration::from_micros(200));
                        now.fetch_sub(1, Ordering::SeqCst);
                        steps += 1;
                        cx.waker().wake_by_ref();
                        if steps < 3 { Poll::Pending } else { Poll::Ready(()) }
                    });
                    limiter.run(host(1), work).await;
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
    async fn a_handshake_that_waits_for_something_else_has_no_turn() {
        let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
        let (answer, question) = oneshot::channel();
        let done = Cell::new(false);
        tokio::join!(
            async {
                limiter.run(host(1), question).await.unwrap();
                assert!(done.get());
            },
            async {
                limiter.run(host(1), async { done.set(true) }).await;
                answer.send(()).unwrap();
            },
        );
    }

    #[tokio::test]
    async fn a_waiting_handshake_is_polled_again_only_after_it_is_woken() {
        let (answer, mut question) = oneshot::channel();
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polls);
        let asking = tokio::spawn(async move {
            let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
            let question = poll_fn(|cx| {
                counter.fetch_add(1, Ordering::Relaxed);
                Pin::new(&mut question).poll(cx)
            });
            limiter.run(host(1), question).await
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
    async fn f07_a_handshake_waits_for_one_step_of_hundreds_from_another_address() {
        let limiter = Arc::new(HandshakeLimiter::new(NonZeroUsize::MIN));
        let steps = Arc::new(AtomicUsize::new(0));
        let flood: Vec<_> = (0..300)
            .map(|_| {
                let (limiter, steps) = (Arc::clone(&limiter), Arc::clone(&steps));
                tokio::spawn(turns_of(limiter, host(9), move || {
                    steps.fetch_add(1, Ordering::Relaxed);
                }))
            })
            .collect();
        // All of them are at their first await.
        yield_now().await;
        for _ in 0..3 {
            let before = steps.load(Ordering::Relaxed);
            let counter = Arc::clone(&steps);
            let seen = Arc::new(AtomicUsize::new(0));
            let at = Arc::clone(&seen);
            turns_of(Arc::clone(&limiter), host(1), move || {
                at.store(counter.load(Ordering::Relaxed), Ordering::Relaxed);
            })
            .await;
            let waited = seen.load(Ordering::Relaxed) - before;
            // One handshake has the turn, and another may get the next turn at the same moment.
            assert!(waited <= 2, "{waited} steps of the flood");
        }
        for task in flood {
            task.await.unwrap();
        }
    }

    /// A handshake with a single step.
    async fn turns_of(limiter: Arc<HandshakeLimiter>, host: Host, step: impl FnOnce()) {
        limiter.run(host, async { step() }).await;
    }
}
