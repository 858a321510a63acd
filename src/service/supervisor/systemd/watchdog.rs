//! The watchdog of systemd, and the rhythm of the notifications.

use std::{convert::Infallible, pin::pin, time::Duration};

use tokio::time::{sleep, timeout};

/// How often the status line is updated, if there is no watchdog.
const STATUS_PERIOD: Duration = Duration::from_secs(15);

/// The time between two notifications: half the time for which the service manager waits for a
/// watchdog notification.
pub(super) fn period() -> Duration {
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    limit.map_or(STATUS_PERIOD, |limit| limit / 2)
}

/// Calls `tell` once per `period`, each time after `check` has finished.
pub(super) async fn each<F: Future<Output = ()>>(
    period: Duration,
    check: impl Fn() -> F,
    tell: impl Fn(),
) -> Infallible {
    loop {
        sleep(period).await;
        let mut check = pin!(check());
        if timeout(period, check.as_mut()).await.is_err() {
            tracing::error!(
                "a worker thread does not respond; no watchdog notification until it does"
            );
            check.await;
        }
        tell();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{sync::Notify, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_while_a_worker_hangs() {
        let period = Duration::from_secs(5);
        let (hangs, answers, sent) = (Cell::new(false), Notify::new(), Cell::new(0));
        let check = || async {
            if hangs.get() {
                answers.notified().await;
            }
        };
        let mut sending = pin!(each(period, check, || sent.set(sent.get() + 1)));
        let begun = Instant::now();
        let after = |periods: u32| begun + period * periods + Duration::from_millis(1);
        for periods in 1..=3 {
            let _ = tokio::time::timeout_at(after(periods), sending.as_mut()).await;
            assert_eq!(sent.get(), periods);
        }
        hangs.set(true);
        let _ = tokio::time::timeout_at(after(100), sending.as_mut()).await;
        assert_eq!(sent.get(), 3);
        hangs.set(false);
        answers.notify_one();
        let _ = tokio::time::timeout_at(after(101), sending.as_mut()).await;
        assert_eq!(sent.get(), 5, "immediately, and after another period");
    }
}
