//! The open connections, so that a reload, an expired certificate or the shutdown can reach each of
//! them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::UnixTime;
use tokio::{sync::watch, task::yield_now};

use super::{
    security::{ConnectionSecurity, seconds},
    serving::Unauthorized,
    state::ConnectionState,
};
use crate::common::{peer::Peer, shutdown::ShutdownPhase};

/// All open connections. Each connection takes the lock only when it begins and when it ends. No
/// lock is taken during a scrape.
#[derive(Debug, Default)]
pub(super) struct ConnectionRegistry(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The phase of the server. A single connection may be in a later phase.
    phase: ShutdownPhase,
    all: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: Arc<Peer>,
    security: Arc<ConnectionSecurity>,
    state: Arc<ConnectionState>,
    /// When the first of the client's certificates expires, in seconds since 1970 (UTC).
    valid_until: Option<i64>,
    /// A time before the last verification of the certificates, in seconds since 1970 (UTC).
    verified: i64,
    shutdown: watch::Sender<ShutdownPhase>,
}

impl Entry {
    fn candidate(&self, number: u64) -> Candidate {
        Candidate { number, peer: Arc::clone(&self.peer), security: Arc::clone(&self.security) }
    }

    /// Starts the drain of this connection, and returns whether it was not draining before.
    fn drain(&self, why: &Unauthorized) -> bool {
        // Set before the drain: hyper still lets a request finish whose head has begun.
        self.state.dismiss();
        let drained = ShutdownPhase::begin_drain(&self.shutdown);
        if drained {
            tracing::info!(
                peer = %self.peer.address,
                client = self.peer.client(),
                reason = %why,
                "closing connection: client no longer authorized"
            );
        }
        drained
    }
}

/// The entry of one open connection. Dropping it removes the entry.
#[derive(Debug)]
pub(super) struct Registration {
    connections: Arc<ConnectionRegistry>,
    number: u64,
}

impl ConnectionRegistry {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection. Returns its entry and the phase of its own shutdown, which can be draining
    /// while the server still serves.
    pub(super) fn add(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        security: ConnectionSecurity,
        state: Arc<ConnectionState>,
    ) -> (Registration, watch::Receiver<ShutdownPhase>) {
        let mut open = self.open();
        let (shutdown, phase) = watch::channel(open.phase);
        let number = open.next;
        open.next += 1;
        let valid_until = security.first_end(i64::MIN);
        let (verified, security) = (security.verified(), Arc::new(security));
        open.all.insert(number, Entry { peer, security, state, valid_until, verified, shutdown });
        (Registration { connections: Arc::clone(self), number }, phase)
    }

    /// The number of open connections.
    pub(super) fn count(&self) -> usize {
        self.open().all.len()
    }

    /// Moves all connections, and those added later, to `phase`.
    pub(super) fn enter(&self, phase: ShutdownPhase) {
        let mut open = self.open();
        open.phase = phase;
        for entry in open.all.values() {
            entry.shutdown.send_replace(phase);
        }
    }

    /// All open connections. A connection that is added later must check itself; see
    /// [`Registration::drain_unless`].
    pub(super) fn all(&self) -> Vec<Candidate> {
        self.open().all.iter().map(|(number, entry)| entry.candidate(*number)).collect()
    }

    /// The connections that must be verified again at `now`. A connection is due if one of its
    /// certificates has expired, or if a trust anchor or CRL expired at `ended` and the connection
    /// was verified before that. Other connections are not returned, because each verification
    /// checks signatures.
    pub(super) fn due(&self, now: UnixTime, ended: Option<i64>) -> Vec<Candidate> {
        let now = seconds(now);
        let mut due = Vec::new();
        for (number, entry) in &mut self.open().all {
            let has_expired = entry.valid_until.is_some_and(|end| end < now);
            if has_expired || ended.is_some_and(|end| end >= entry.verified) {
                // An expired certificate may not be needed for the path to the anchor. Continue
                // with the next end.
                entry.valid_until = entry.security.first_end(now);
                entry.verified = entry.verified.max(now);
                due.push(entry.candidate(*number));
            }
        }
        due
    }

    /// Drains the candidates that `authorize` refuses: idle connections close at once, others after
    /// the scrape in progress. Returns the number of connections that began to drain.
    ///
    /// A check can take a tenth of a millisecond, because signatures are verified. With thousands
    /// of connections that would delay every new one, so this yields after each check. If the
    /// future is dropped, the remaining candidates are not checked.
    pub(super) async fn drain_unless(
        &self,
        candidates: Vec<Candidate>,
        authorize: impl Fn(&Peer, &ConnectionSecurity) -> Result<(), Unauthorized>,
    ) -> usize {
        let mut drained = 0;
        for Candidate { number, peer, security } in candidates {
            // Without the lock, which every connection takes.
            if let Err(why) = authorize(&peer, &security) {
                let entry_drained = self.open().all.get(&number).is_some_and(|it| it.drain(&why));
                drained += usize::from(entry_drained);
            }
            yield_now().await;
        }
        drained
    }
}

/// A connection that may have to be drained. It may be closed by now.
#[derive(Debug)]
pub(super) struct Candidate {
    number: u64,
    peer: Arc<Peer>,
    security: Arc<ConnectionSecurity>,
}

impl Registration {
    /// Drains this connection if `is_authorized` returns false for it.
    pub(super) fn drain_unless(&self, is_authorized: impl Fn(&Peer, &ConnectionSecurity) -> bool) {
        if let Some(entry) = self.connections.open().all.get(&self.number) {
            if !is_authorized(&entry.peer, &entry.security) {
                entry.drain(&Unauthorized::Reload);
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use super::*;
    use crate::downstream::state::Timeouts;

    /// The state of a connection without a request.
    fn state() -> Arc<ConnectionState> {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { header: second, idle: second, stall: second };
        Arc::new(ConnectionState::new(timeouts))
    }

    fn peer(port: u16) -> Arc<Peer> {
        Arc::new(Peer { address: ([127, 0, 0, 1], port).into(), identity: None })
    }

    #[test]
    fn open_connections_are_counted_and_follow_the_phase_of_the_server() {
        let open = Arc::new(ConnectionRegistry::default());
        let add = |port| open.add(peer(port), ConnectionSecurity::Plain, state());
        let ((first, first_phase), (_second, _)) = (add(1), add(2));
        assert_eq!((open.count(), *first_phase.borrow()), (2, ShutdownPhase::Serving));
        open.enter(ShutdownPhase::Draining);
        let (_third, third_phase) = add(3);
        for phase in [first_phase, third_phase] {
            assert_eq!(*phase.borrow(), ShutdownPhase::Draining);
        }
        drop(first);
        assert_eq!(open.count(), 2);
    }

    #[test]
    fn a_connection_is_due_when_a_trust_anchor_has_expired_since_its_last_verification() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let open = Arc::new(ConnectionRegistry::default());
        let security = ConnectionSecurity::Tls { presented: Vec::new(), before: at(100) };
        let (_registration, _) = open.add(peer(1), security, state());
        for (now, ended, count) in
            [(150, None, 0), (150, Some(99), 0), (150, Some(100), 1), (150, Some(149), 0)]
        {
            assert_eq!(open.due(at(now), ended).len(), count, "{now} {ended:?}");
        }
    }

    #[test]
    fn a_connection_is_due_once_after_the_last_second_of_its_certificate() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let mut params = rcgen::CertificateParams::new(["x".to_owned()]).expect("a name");
        params.not_after = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(200);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let presented = vec![certificate.der().clone()];
        let open = Arc::new(ConnectionRegistry::default());
        let security = ConnectionSecurity::Tls { presented, before: at(100) };
        let (_registration, _) = open.add(peer(1), security, state());
        for (now, count) in [(199, 0), (200, 0), (201, 1), (202, 0)] {
            assert_eq!(open.due(at(now), None).len(), count, "{now}");
        }
    }

    #[test]
    fn a_connection_drains_only_if_it_is_not_authorized() {
        let open = Arc::new(ConnectionRegistry::default());
        let (registration, phase) = open.add(peer(1), ConnectionSecurity::Plain, state());
        registration.drain_unless(|_, _| true);
        assert_eq!(*phase.borrow(), ShutdownPhase::Serving);
        registration.drain_unless(|_, _| false);
        assert_eq!(*phase.borrow(), ShutdownPhase::Draining);
    }

    #[test]
    fn other_tasks_run_between_the_checks_of_open_connections() {
        const CONNECTIONS: u16 = 100;
        let open = Arc::new(ConnectionRegistry::default());
        let mut registrations: Vec<_> = (0..CONNECTIONS)
            .map(|number| open.add(peer(number), ConnectionSecurity::Plain, state()))
            .collect();
        let checks = Cell::new(0);
        let authorize = |peer: &Peer, _: &ConnectionSecurity| {
            checks.set(checks.get() + 1);
            if peer.address.port() < CONNECTIONS / 2 { Err(Unauthorized::Reload) } else { Ok(()) }
        };
        let mut draining = pin!(open.drain_unless(open.all(), authorize));
        let mut context = Context::from_waker(Waker::noop());
        // Connection 0 closes before the first check, so it does not count.
        drop(registrations.swap_remove(0));
        let mut polls = 0;
        let drained = loop {
            let before = checks.get();
            let polled = draining.as_mut().poll(&mut context);
            assert!(checks.get() <= before + 1, "one check a turn");
            polls += 1;
            if let Poll::Ready(drained) = polled {
                break drained;
            }
        };
        assert!(polls > usize::from(CONNECTIONS), "{polls}");
        assert_eq!(checks.get(), usize::from(CONNECTIONS));
        assert_eq!(drained, usize::from(CONNECTIONS) / 2 - 1);
    }
}
