//! Which clients may ask, and how much time a request has.

use hyper::http::request::Parts;
use tokio::time::Instant;

use crate::{
    common::{
        deadline::{Budget, Deadline, SCRAPE_TIMEOUT_HEADER},
        error::{Refusal, Unchecked, UpstreamError},
        peer::{ANY_PEER, Peer},
    },
    http::{metrics::Unread, route::Route, state::AppState},
};

/// The deadline of a request: the exporter's `timeout` for a scrape, [`Budget::OF_OWN_ANSWERS`] for
/// anything else, or earlier if the scraper's header says so.
pub(super) fn deadline_of(
    app: &AppState,
    route: Option<&Route>,
    head: &Parts,
    arrival: Instant,
) -> Deadline {
    let exporter = match (route, &app.exporters) {
        (Some(Route::Scrape { exporter, .. }), Some(exporters)) => exporters.get(exporter),
        _ => None,
    };
    Deadline::of_scrape(
        arrival,
        exporter.map_or(Budget::OF_OWN_ANSWERS, |exporter| exporter.config.rules.timeout),
        head.headers.get(SCRAPE_TIMEOUT_HEADER),
        app.scrape_timeout_offset,
    )
}

/// Checks whether the client may ask. No exporter is involved yet, and no permit of an exporter is
/// taken.
pub(super) async fn let_in(
    app: &AppState,
    peer: &Peer,
    head: &Parts,
    deadline: Deadline,
) -> Result<(), Refusal> {
    let mut leaving = LeftUnchecked { app, peer, is_over: false };
    let checked = app.access.check(peer, &head.headers, deadline).await;
    leaving.is_over = true;
    checked
}

/// Counts and logs a connection that ends before its password check is done. Otherwise a client
/// could guess passwords without a trace, by closing each connection early.
struct LeftUnchecked<'a> {
    app: &'a AppState,
    peer: &'a Peer,
    is_over: bool,
}

impl Drop for LeftUnchecked<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.app.metrics.unread(Unread::LeftUnchecked);
        tracing::info!(
            target: ANY_PEER,
            client = self.peer.client(),
            peer = %self.peer.address,
            reason = "the connection ended before the password was checked",
            "request refused"
        );
    }
}

/// Whether the checks before the scrape took more than a tenth of its time. `asked` is when the
/// exporter is asked. If such a scrape misses its deadline, the exporter is not to blame.
pub(super) fn asks_late(arrival: Instant, asked: Instant, deadline: Deadline) -> bool {
    asked.saturating_duration_since(arrival) * 10 > deadline.remaining(arrival)
}

/// The refusal for a scrape that failed before its head. If the scrape [`asks_late`] and its
/// deadline has passed, the exporter is not blamed.
pub(super) fn charged(error: UpstreamError, asks_late: bool, deadline: Deadline) -> Refusal {
    if deadline.remaining(Instant::now()).is_zero() && asks_late {
        Unchecked::TooLate.into()
    } else {
        error.into()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::common::error::Blame;

    #[tokio::test(start_paused = true)]
    async fn f05_a_scrape_that_spent_its_time_on_the_password_check_does_not_blame_the_exporter() {
        let secs = Duration::from_secs_f64;
        for (check, exporter, blamed) in [
            (0.0, 5.0, Blame::Upstream),
            (0.5, 4.5, Blame::Upstream),
            (0.6, 4.4, Blame::Proxy),
            (4.9, 0.1, Blame::Proxy),
            // An error other than the deadline, for example a refused connection.
            (0.6, 1.0, Blame::Upstream),
        ] {
            let arrival = Instant::now();
            let deadline = Deadline::after(arrival, Budget::new(secs(5.0)).unwrap());
            advance(secs(check)).await;
            let asks_late = asks_late(arrival, Instant::now(), deadline);
            advance(secs(exporter)).await;
            let refusal = charged(UpstreamError::FirstByteTimeout, asks_late, deadline);
            assert_eq!(refusal.info().blame, blamed, "{check} s for the check");
        }
    }
}
