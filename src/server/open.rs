//! The connections that are open, so that a change can reach each of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{peer::Peer, shutdown::Stage};

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
    /// The certificates it showed.
    chain: Vec<CertificateDer<'static>>,
    stage: watch::Sender<Stage>,
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
        chain: Vec<CertificateDer<'static>>,
    ) -> (Place, watch::Receiver<Stage>) {
        let mut open = self.open();
        let (stage, reached) = watch::channel(open.stage);
        let number = open.next;
        open.next += 1;
        open.all.insert(number, Entry { peer, chain, stage });
        (Place { connections: Arc::clone(self), number }, reached)
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
    pub(super) fn dismiss(
        &self,
        is_welcome: impl Fn(&Peer, &[CertificateDer<'static>]) -> bool,
    ) -> usize {
        let open = self.open();
        let unwelcome = open.all.values().filter(|entry| !is_welcome(&entry.peer, &entry.chain));
        unwelcome
            .filter(|entry| {
                entry.stage.send_if_modified(|stage| {
                    let serving = *stage == Stage::Serving;
                    if serving {
                        *stage = Stage::Draining;
                    }
                    serving
                })
            })
            .inspect(|entry| {
                tracing::info!(
                    peer = %entry.peer.address,
                    client = entry.peer.client(),
                    "no longer welcome: the connection ends"
                );
            })
            .count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.number);
    }
}
