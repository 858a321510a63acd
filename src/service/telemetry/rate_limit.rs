//! A rate limit for records that any peer can cause as often as it likes. Reports how many records
//! were suppressed.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::common::peer::ANY_PEER;

/// The most records with the same message within any [`SPAN`].
const MOST: usize = 20;

/// The period of the rate limit, and of the reports about suppressed records.
const SPAN: Duration = Duration::from_secs(1);

/// Limits the records whose target is [`ANY_PEER`]. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct LogRateLimiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kinds: Mutex<HashMap<String, Kind>>,
    /// Notified when a record is suppressed.
    news: Notify,
}

/// The records with the same message. Messages are constants, so there are few kinds.
#[derive(Debug, Default)]
struct Kind {
    /// When records were logged within the last [`SPAN`].
    recent: VecDeque<Instant>,
    /// Number of suppressed records since the last report.
    suppressed: u64,
}

impl Kind {
    fn lets_through(&mut self, now: Instant) -> bool {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= SPAN) {
            self.recent.pop_front();
        }
        let is_room = self.recent.len() < MOST;
        if is_room {
            self.recent.push_back(now);
        } else {
            self.suppressed += 1;
        }
        is_room
    }
}

impl LogRateLimiter {
    fn kinds(&self) -> MutexGuard<'_, HashMap<String, Kind>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lets_through(&self, message: String, now: Instant) -> bool {
        let through = self.kinds().entry(message).or_default().lets_through(now);
        if !through {
            self.0.news.notify_one();
        }
        through
    }

    /// Logs how many records were suppressed since the last report, one record for each kind.
    pub(super) fn report(&self) {
        let taken: Vec<_> = self
            .kinds()
            .iter_mut()
            .filter(|(_, kind)| kind.suppressed > 0)
            .map(|(message, kind)| (message.clone(), std::mem::take(&mut kind.suppressed)))
            .collect();
        for (kind, suppressed) in taken {
            tracing::warn!(kind, left_out = suppressed, "log records suppressed");
        }
    }

    /// Calls [`LogRateLimiter::report`] once a second while records are being suppressed.
    pub(super) async fn report_each_second(&self) -> Infallible {
        loop {
            self.0.news.notified().await;
            sleep(SPAN).await;
            self.report();
        }
    }
}

impl<S: Subscriber> Layer<S> for LogRateLimiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if event.metadata().target() != ANY_PEER {
            return true;
        }
        let mut message = Message::default();
        event.record(&mut message);
        self.lets_through(message.0, Instant::now())
    }
}

/// The message of a record.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_20_records_of_a_kind_pass_within_any_second() {
        let limiter = LogRateLimiter::default();
        let start = Instant::now();
        let mut through = VecDeque::new();
        let mut suppressed = 0;
        // One record each 10 ms for 5 s.
        for at in (0..500).map(|step| start + step * Duration::from_millis(10)) {
            if limiter.lets_through("a".to_owned(), at) {
                through.push_back(at);
                let first = through[through.len().saturating_sub(MOST + 1)];
                assert!(through.len() <= MOST || at - first >= SPAN);
            } else {
                suppressed += 1;
            }
        }
        assert_eq!(through.len(), MOST * 5);
        assert!(limiter.lets_through("b".to_owned(), start));
        assert_eq!(limiter.kinds()["a"].suppressed, suppressed);
        limiter.report();
        assert_eq!(limiter.kinds()["a"].suppressed, 0);
    }
}
