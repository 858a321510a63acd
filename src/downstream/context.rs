//! What all sessions share: the state in use, the open connections, and the limit on handshakes.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{
    handshake::HandshakeLimiter,
    registry::ConnectionRegistry,
    security::seconds,
    serving::{ServingState, Unauthorized},
};
use crate::{common::shutdown::ShutdownPhase, tls::wall_clock};

/// What all sessions share.
#[derive(Debug)]
pub struct SessionContext {
    state: watch::Sender<Arc<ServingState>>,
    pub(super) registry: Arc<ConnectionRegistry>,
    pub(super) handshakes: HandshakeLimiter,
}

impl SessionContext {
    /// A context without connections.
    #[must_use]
    pub fn new(state: ServingState, handshakes: HandshakeLimiter) -> Self {
        Self { state: watch::Sender::new(Arc::new(state)), registry: Arc::default(), handshakes }
    }

    /// The state in use.
    #[must_use]
    pub fn state(&self) -> Arc<ServingState> {
        Arc::clone(&self.state.borrow())
    }

    /// Replaces the state for new connections and new requests. Open connections whose client is no
    /// longer authorized stay until [`SessionContext::drain_unauthorized`].
    pub fn replace_state(&self, state: Arc<ServingState>) {
        self.state.send_replace(state);
    }

    /// Drains the open connections that `state` does not authorize: idle ones close at once, others
    /// after the scrape in progress. Returns their number.
    ///
    /// If the future is dropped, the remaining connections are not checked.
    pub async fn drain_unauthorized(&self, state: &ServingState) -> usize {
        let all = self.registry.all();
        self.registry
            .drain_unless(all, |peer, security| {
                state.authorize(peer, security).map_err(|_| Unauthorized::Reload)
            })
            .await
    }

    /// Drains connections when a client certificate expires, or a CA or CRL by which it was
    /// verified. Follows the wall clock, even if the clock is changed.
    ///
    /// The validity of certificates is given in whole seconds, so this runs once at the beginning of
    /// each second (RFC 5280 §4.1.2.5).
    pub async fn drain_expired(&self) -> Infallible {
        loop {
            let now = wall_clock();
            let state = self.state();
            let due = self.registry.due(now, state.last_end_before(seconds(now)));
            self.registry.drain_unless(due, |peer, security| state.authorize(peer, security)).await;
            drop(state);
            sleep(to_next_second(SystemTime::now())).await;
        }
    }

    /// The number of open connections, without unfinished handshakes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.registry.count()
    }

    /// Moves all connections, and those added later, to `phase`.
    pub fn enter(&self, phase: ShutdownPhase) {
        self.registry.enter(phase);
    }
}

/// The time until the wall clock shows the next second.
fn to_next_second(now: SystemTime) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since_1970.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{
        common::peer::Peer,
        downstream::{
            security::ConnectionSecurity,
            serving::{ListenerMode, fixture::serving},
            state::{ConnectionState, Timeouts},
        },
    };

    #[test]
    fn the_next_second_begins_after_the_rest_of_this_one() {
        for (millis, rest) in [(0, 1000), (1, 999), (1250, 750), (2999, 1)] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(to_next_second(now), Duration::from_millis(rest), "{millis} ms");
        }
    }

    #[tokio::test]
    async fn open_connections_are_counted() {
        let handshakes = HandshakeLimiter::new(NonZeroUsize::MIN);
        let context = SessionContext::new(serving(ListenerMode::PlainHttp), handshakes);
        let connect = || {
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: None };
            let second = Duration::from_secs(1);
            let timeouts = Timeouts { header: second, idle: second, stall: second };
            let state = Arc::new(ConnectionState::new(timeouts));
            context.registry.add(Arc::new(peer), ConnectionSecurity::Plain, state)
        };
        assert_eq!(context.connections(), 0);
        let open = (connect(), connect());
        assert_eq!(context.connections(), 2);
        drop(open);
        assert_eq!(context.connections(), 0);
    }
}
