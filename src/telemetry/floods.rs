//! Records that any peer can cause as often as it likes: at most so many a second and kind, and
//! how many were left out.

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

use crate::peer::ANY_PEER;

/// Records of a kind, which is what has the same message, within any [`SPAN`].
const MOST: usize = 20;

/// See [`MOST`]; also how often it is said how many were left out.
const SPAN: Duration = Duration::from_secs(1);

/// Limits the records whose target is `peer::ANY_PEER`. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Floods(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kinds: Mutex<HashMap<String, Kind>>,
    /// Something was left out.
    news: Notify,
}

/// Records with the same message. Messages are constant, so there are few kinds.
#[derive(Debug, Default)]
struct Kind {
    /// When those were let through that count.
    recent: VecDeque<Instant>,
    left_out: u64,
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
            self.left_out += 1;
        }
        is_room
    }
}

impl Floods {
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

    /// Logs how many records were left out since it was last said, a record for each kind.
    pub(super) fn report(&self) {
        let taken: Vec<_> = self
            .kinds()
            .iter_mut()
            .filter(|(_, kind)| kind.left_out > 0)
            .map(|(message, kind)| (message.clone(), std::mem::take(&mut kind.left_out)))
            .collect();
        for (kind, left_out) in taken {
            tracing::warn!(kind, left_out, "records left out");
        }
    }

    /// Calls [`Floods::report`] once a second while there is something to report.
    pub(super) async fn report_each_second(&self) -> Infallible {
        loop {
            self.0.news.notified().await;
            sleep(SPAN).await;
            self.report();
        }
    }
}

impl<S: Subscriber> Layer<S> for Floods {
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
    fn within_any_second_so_many_of_a_kind_are_let_through() {
        let floods = Floods::default();
        let start = Instant::now();
        let mut through = VecDeque::new();
        let mut left_out = 0;
        // Every 10 ms for 5 s, with another kind between them now and then.
        for at in (0..500).map(|step| start + step * Duration::from_millis(10)) {
            if floods.lets_through("a".to_owned(), at) {
                through.push_back(at);
                let first = through[through.len().saturating_sub(MOST + 1)];
                assert!(through.len() <= MOST || at - first >= SPAN);
            } else {
                left_out += 1;
            }
        }
        assert_eq!(through.len(), MOST * 5);
        assert!(floods.lets_through("b".to_owned(), start));
        assert_eq!(floods.kinds()["a"].left_out, left_out);
        floods.report();
        assert_eq!(floods.kinds()["a"].left_out, 0);
    }
}
