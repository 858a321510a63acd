//! The connections that are open, so that a change can reach each of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use crate::{
    activity::Activity, error::certificate::CertificateFault, peer::Peer, shutdown::Stage, tls,
};

/// See the module's documentation. One lock a connection, at its beginning and its end: nothing of
/// this is on the way of a scrape.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// That of the server; a connection may be further.
    stage: Stage,
    all: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: Arc<Peer>,
    wire: Arc<Wire>,
    activity: Arc<Activity>,
    /// The end of the first certificate to expire, in seconds since 1970.
    valid_until: Option<i64>,
    /// Its certificates were verified then or later, in seconds since 1970.
    verified: i64,
    stage: watch::Sender<Stage>,
}

impl Entry {
    /// Goes to the next stage if it serves; says whether it did.
    fn drain(&self, why: &Dismissal) -> bool {
        // Before hyper hears of it, which lets a request be completed whose head has begun.
        self.activity.dismiss();
        let drained = self.stage.send_if_modified(|stage| {
            let serving = *stage == Stage::Serving;
            if serving {
                *stage = Stage::Draining;
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

/// Why a connection is no longer welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dismissal {
    /// The rules have changed.
    Reload,
    /// The certificates that it showed are not trusted any more: one of them, a CA or a revocation
    /// list is out of its time.
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

/// What a connection runs over.
#[derive(Debug)]
pub(super) enum Wire {
    /// Plain HTTP.
    Plain,
    /// TLS.
    Tls {
        /// The certificates that the client has shown.
        shown: Vec<CertificateDer<'static>>,
        /// Before they were verified.
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
            // There is nothing to verify.
            Self::Plain => i64::MAX,
            Self::Tls { before, .. } => seconds(*before),
        }
    }
}

/// A connection's place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<OpenConnections>,
    number: u64,
}

impl OpenConnections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection. The second value is its own stage: drained alone when it is dismissed.
    pub(super) fn add(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        wire: Wire,
        activity: Arc<Activity>,
    ) -> (Place, watch::Receiver<Stage>) {
        let mut open = self.open();
        let (stage, reached) = watch::channel(open.stage);
        let number = open.next;
        open.next += 1;
        let valid_until = first_end(wire.shown(), i64::MIN);
        let (verified, wire) = (wire.verified(), Arc::new(wire));
        open.all.insert(number, Entry { peer, wire, activity, valid_until, verified, stage });
        (Place { connections: Arc::clone(self), number }, reached)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open().all.len()
    }

    /// Takes all of them, and those to come, to the server's stage.
    pub(super) fn reach(&self, stage: Stage) {
        let mut open = self.open();
        open.stage = stage;
        for entry in open.all.values() {
            entry.stage.send_replace(stage);
        }
    }

    /// Drains those that `is_welcome` does not want: idle ones close at once, others behind the
    /// scrape they are at. Gives their number.
    ///
    /// Those that are added meanwhile have to look for themselves, see [`Place::dismiss_unless`].
    pub(super) fn dismiss(&self, is_welcome: impl Fn(&Peer, &Wire) -> bool) -> usize {
        let all: Vec<_> = {
            let open = self.open();
            let shares = |(number, entry): (&u64, &Entry)| {
                (*number, Arc::clone(&entry.peer), Arc::clone(&entry.wire))
            };
            open.all.iter().map(shares).collect()
        };
        // Without the lock: it takes signatures to be checked.
        let unwelcome: Vec<u64> = all
            .into_iter()
            .filter(|(_, peer, wire)| !is_welcome(peer, wire))
            .map(|(number, ..)| number)
            .collect();
        let open = self.open();
        let left = unwelcome.iter().filter_map(|number| open.all.get(number));
        left.filter(|entry| entry.drain(&Dismissal::Reload)).count()
    }

    /// Those that have to be verified anew at `now`: one of their certificates has expired, or an
    /// anchor or a revocation list was valid no longer than to `ended`, and they were verified before
    /// that. The others are not asked about: that takes signatures to be checked.
    pub(super) fn due(&self, now: UnixTime, ended: Option<i64>) -> Vec<Due> {
        let now = seconds(now);
        let mut due = Vec::new();
        for (number, entry) in &mut self.open().all {
            let has_expired = entry.valid_until.is_some_and(|end| end < now);
            if has_expired || ended.is_some_and(|end| end >= entry.verified) {
                // A certificate that the way to the anchor can do without may expire unnoticed.
                entry.valid_until = first_end(entry.wire.shown(), now);
                entry.verified = entry.verified.max(now);
                let (peer, wire) = (Arc::clone(&entry.peer), Arc::clone(&entry.wire));
                due.push(Due { number: *number, peer, wire });
            }
        }
        due
    }

    /// Drains one of them, if it is still there.
    pub(super) fn drain(&self, due: &Due, why: &Dismissal) {
        if let Some(entry) = self.open().all.get(&due.number) {
            entry.drain(why);
        }
    }
}

/// A connection that has to be verified anew, which takes too long for the lock.
#[derive(Debug)]
pub(super) struct Due {
    number: u64,
    pub(super) peer: Arc<Peer>,
    pub(super) wire: Arc<Wire>,
}

fn seconds(moment: UnixTime) -> i64 {
    i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)
}

/// The first end of validity among these certificates that is not before `from`.
fn first_end(chain: &[CertificateDer<'_>], from: i64) -> Option<i64> {
    let ends = chain.iter().filter_map(|certificate| tls::validity(certificate));
    ends.map(|(_, end)| end).filter(|end| *end >= from).min()
}

impl Place {
    /// Drains this connection if `is_welcome` does not want it.
    pub(super) fn dismiss_unless(&self, is_welcome: impl Fn(&Peer, &Wire) -> bool) {
        if let Some(entry) = self.connections.open().all.get(&self.number) {
            if !is_welcome(&entry.peer, &entry.wire) {
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
