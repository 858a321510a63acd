//! The open connections, so that a reload, an expired certificate or the shutdown can reach each of
//! them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{sync::watch, task::yield_now};

use crate::{
    common::{error::certificate::CertificateFault, peer::Peer, shutdown::ShutdownPhase},
    downstream::activity::Activity,
    tls,
};

/// All open connections. Each connection takes the lock only when it begins and when it ends. No
/// lock is taken during a scrape.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The phase of the server. A single connection may be in a later phase.
    phase: ShutdownPhase,
    all: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: Arc<Peer>,
    wire: Arc<Wire>,
    activity: Arc<Activity>,
    /// When the first of the client's certificates expires, in seconds since 1970 (UTC).
    valid_until: Option<i64>,
    /// A time before the last verification of the certificates, in seconds since 1970 (UTC).
    verified: i64,
    shutdown: watch::Sender<ShutdownPhase>,
}

impl Entry {
    fn candidate(&self, number: u64) -> Candidate {
        Candidate { number, peer: Arc::clone(&self.peer), wire: Arc::clone(&self.wire) }
    }

    /// Starts the drain of this connection, and returns whether it was not draining before.
    fn drain(&self, why: &Dismissal) -> bool {
        // Set before the drain: hyper still lets a request finish whose head has begun.
        self.activity.dismiss();
        let drained = self.shutdown.send_if_modified(|phase| {
            let serving = *phase == ShutdownPhase::Serving;
            if serving {
                *phase = ShutdownPhase::Draining;
            }
            serving
        });
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

/// Why a client is no longer authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dismissal {
    /// A reload changed the rules.
    Reload,
    /// The certificates of the client are no longer trusted: one of them, a CA or a CRL has
    /// expired.
    Certificate(CertificateFault),
}

impl fmt::Display for Dismissal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Certificate(fault) => fault.fmt(f),
        }
    }
}

/// How a connection is transported.
#[derive(Debug)]
pub(super) enum Wire {
    /// Plain HTTP.
    Plain,
    /// TLS.
    Tls {
        /// The certificate chain that the client sent, leaf first.
        shown: Vec<CertificateDer<'static>>,
        /// A time just before the chain was verified.
        before: UnixTime,
    },
}

impl Wire {
    fn shown(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain => &[],
            Self::Tls { shown, .. } => shown,
        }
    }

    fn verified(&self) -> i64 {
        match self {
            // Plain HTTP has no certificates to verify.
            Self::Plain => i64::MAX,
            Self::Tls { before, .. } => seconds(*before),
        }
    }
}

/// The entry of one open connection. Dropping it removes the entry.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<OpenConnections>,
    number: u64,
}

impl OpenConnections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection. Returns its entry and its own shutdown phase, which can be draining while the
    /// server still serves.
    pub(super) fn add(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        wire: Wire,
        activity: Arc<Activity>,
    ) -> (Place, watch::Receiver<ShutdownPhase>) {
        let mut open = self.open();
        let (shutdown, phase) = watch::channel(open.phase);
        let number = open.next;
        open.next += 1;
        let valid_until = first_end(wire.shown(), i64::MIN);
        let (verified, wire) = (wire.verified(), Arc::new(wire));
        open.all.insert(number, Entry { peer, wire, activity, valid_until, verified, shutdown });
        (Place { connections: Arc::clone(self), number }, phase)
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
    /// [`Place::dismiss_unless`].
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
                entry.valid_until = first_end(entry.wire.shown(), now);
                entry.verified = entry.verified.max(now);
                due.push(entry.candidate(*number));
            }
        }
        due
    }

    /// Drains the candidates that `judge` refuses: idle connections close at once, others after
    /// the scrape in progress. Returns the number of connections that began to drain.
    ///
    /// A verdict can take a tenth of a millisecond, because signatures are checked. With thousands
    /// of connections that would delay every new one, so this yields after each verdict. If the
    /// future is dropped, the remaining candidates are not judged.
    pub(super) async fn drain_unless(
        &self,
        candidates: Vec<Candidate>,
        judge: impl Fn(&Peer, &Wire) -> Result<(), Dismissal>,
    ) -> usize {
        let mut drained = 0;
        for Candidate { number, peer, wire } in candidates {
            // Without the lock, which every connection takes.
            if let Err(why) = judge(&peer, &wire) {
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
    wire: Arc<Wire>,
}

fn seconds(moment: UnixTime) -> i64 {
    i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)
}

/// The earliest end of validity among these certificates that is not before `from`.
fn first_end(chain: &[CertificateDer<'_>], from: i64) -> Option<i64> {
    let ends = chain.iter().filter_map(|certificate| tls::validity(certificate));
    ends.map(|(_, end)| end).filter(|end| *end >= from).min()
}

impl Place {
    /// Drains this connection if `is_admitted` returns false for it.
    pub(super) fn dismiss_unless(&self, is_admitted: impl Fn(&Peer, &Wire) -> bool) {
        if let Some(entry) = self.connections.open().all.get(&self.number) {
            if !is_admitted(&entry.peer, &entry.wire) {
                entry.drain(&Dismissal::Reload);
            }
        }
    }
}

impl Drop for Place {
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
    use crate::downstream::activity::Timeouts;

    #[test]
    fn other_tasks_run_between_the_verdicts_about_open_connections() {
        const CONNECTIONS: u16 = 100;
        let open = Arc::new(OpenConnections::default());
        let peer =
            |port: u16| Arc::new(Peer { address: ([127, 0, 0, 1], port).into(), identity: None });
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { header: second, idle: second, stall: second };
        let mut places: Vec<_> = (0..CONNECTIONS)
            .map(|number| open.add(peer(number), Wire::Plain, Arc::new(Activity::new(timeouts))))
            .collect();
        let verdicts = Cell::new(0);
        let judge = |peer: &Peer, _: &Wire| {
            verdicts.set(verdicts.get() + 1);
            if peer.address.port() < CONNECTIONS / 2 { Err(Dismissal::Reload) } else { Ok(()) }
        };
        let mut draining = pin!(open.drain_unless(open.all(), judge));
        let mut context = Context::from_waker(Waker::noop());
        // Connection 0 closes before the first verdict, so it does not count.
        drop(places.swap_remove(0));
        let mut polls = 0;
        let drained = loop {
            let before = verdicts.get();
            let polled = draining.as_mut().poll(&mut context);
            assert!(verdicts.get() <= before + 1, "one verdict a turn");
            polls += 1;
            if let Poll::Ready(drained) = polled {
                break drained;
            }
        };
        assert!(polls > usize::from(CONNECTIONS), "{polls}");
        assert_eq!(verdicts.get(), usize::from(CONNECTIONS));
        assert_eq!(drained, usize::from(CONNECTIONS) / 2 - 1);
    }
}
