//! A semaphore that is fair between owners. An address with a thousand requests does not keep
//! another address with a single request waiting.
//!
//! In a first-come, first-served queue, the owner that sends the most gets the most. Here, permits
//! go round by owner: one permit for each waiting owner, then the next for each. Requests of one
//! owner are served in the order of arrival. Every operation is O(log n) in the number of waiting
//! requests.

mod groups;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

pub(crate) use self::groups::Groups;

/// The key that permits go round by, such as an address.
pub trait Owner: Clone + Eq + Hash + Ord {}

impl<K: Clone + Eq + Hash + Ord> Owner for K {}

/// A semaphore with a fixed number of permits and a bounded queue, fair between owners. See the
/// [module](self).
pub struct FairSemaphore<K: Owner> {
    most_waiting: usize,
    state: Mutex<State<K>>,
}

/// The queue is full, and this owner has more waiting requests than any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

type Granted = Result<(), QueueFull>;

struct State<K> {
    /// Free permits. Zero while any request waits.
    free: usize,
    waiting: Groups<K, oneshot::Sender<Granted>>,
    /// The waiting owners by the number of their turn. The lowest is next.
    round: BTreeMap<u64, K>,
    /// The inverse of `round`.
    turns: HashMap<K, u64>,
    next_turn: u64,
}

/// One permit. Dropping it passes it on to the next waiting owner.
pub struct Permit<K: Owner>(Arc<FairSemaphore<K>>);

/// A place in the queue. Dropping it gives up the place.
struct Waiter<'a, K: Owner> {
    semaphore: &'a FairSemaphore<K>,
    owner: K,
    number: u64,
    granted: oneshot::Receiver<Granted>,
    is_over: bool,
}

impl<K: Owner> fmt::Debug for FairSemaphore<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairSemaphore").field("most_waiting", &self.most_waiting).finish()
    }
}

impl<K: Owner> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl<K: Owner> FairSemaphore<K> {
    /// Creates a semaphore with `permits` permits and a queue of at most `most_waiting` requests.
    #[must_use]
    pub fn new(permits: usize, most_waiting: usize) -> Arc<Self> {
        let state = State {
            free: permits,
            waiting: Groups::default(),
            round: BTreeMap::new(),
            turns: HashMap::new(),
            next_turn: 0,
        };
        Arc::new(Self { most_waiting, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit. Cancel safe: dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if the queue is full and no other owner has more waiting requests. The newest
    /// request of the owner with the most is refused, so that no owner can fill the queue for all
    /// others. A request that already waits can therefore be refused later.
    pub async fn acquire(self: &Arc<Self>, owner: K) -> Result<Permit<K>, QueueFull> {
        let Some(mut waiter) = self.join(owner) else {
            return Ok(Permit(Arc::clone(self)));
        };
        let granted = (&mut waiter.granted).await;
        waiter.is_over = true;
        // A sender is never dropped before it has sent.
        granted.unwrap_or(Err(QueueFull)).map(|()| Permit(Arc::clone(self)))
    }

    /// Takes a permit and returns `None`, or takes a place in the queue.
    fn join(&self, owner: K) -> Option<Waiter<'_, K>> {
        let mut state = self.state();
        if let Some(left) = state.free.checked_sub(1) {
            state.free = left;
            return None;
        }
        let (grant, granted) = oneshot::channel();
        let number = state.waiting.insert(owner.clone(), grant);
        state.settle(&owner);
        if state.waiting.len() > self.most_waiting {
            state.refuse_one(&owner);
        }
        drop(state);
        Some(Waiter { semaphore: self, owner, number, granted, is_over: false })
    }

    /// The number of waiting requests.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn release(&self) {
        let mut state = self.state();
        let Some((_, owner)) = state.round.pop_first() else {
            state.free += 1;
            return;
        };
        state.turns.remove(&owner);
        let next = state.waiting.pop_oldest(&owner);
        // The owner goes to the end of the round.
        state.settle(&owner);
        // Sent under the lock: a waiter that is dropped finds either its place or its permit.
        let _ = next.map(|next| next.send(Ok(())));
    }
}

impl<K: Owner> State<K> {
    /// Refuses the newest request of the owner with the most. Called when the queue is one request
    /// too long, because `newcomer` joined.
    fn refuse_one(&mut self, newcomer: &K) {
        let Some(largest) = self.waiting.largest() else {
            return;
        };
        // On a tie the new request is refused. Otherwise new requests would push out the oldest
        // waiters.
        let is_tie = self.waiting.count(newcomer) == self.waiting.count(&largest);
        let loser = if is_tie { newcomer.clone() } else { largest };
        let newest = self.waiting.pop_newest(&loser);
        self.settle(&loser);
        // A waiter that is dropped at this moment does not need the answer.
        let _ = newest.map(|newest| newest.send(Err(QueueFull)));
    }

    /// Gives `owner` a turn if it has a waiting request and no turn. Takes away its turn if it has
    /// no waiting request.
    fn settle(&mut self, owner: &K) {
        match (self.waiting.count(owner), self.turns.get(owner)) {
            (0, Some(&turn)) => {
                self.turns.remove(owner);
                self.round.remove(&turn);
            }
            (1.., None) => {
                self.turns.insert(owner.clone(), self.next_turn);
                self.round.insert(self.next_turn, owner.clone());
                self.next_turn += 1;
            }
            (0, None) | (1.., Some(_)) => {}
        }
    }
}

impl<K: Owner> Drop for Waiter<'_, K> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.semaphore.state();
        if state.waiting.remove(&self.owner, self.number).is_some() {
            state.settle(&self.owner);
            return;
        }
        drop(state);
        // The waiter was granted a permit or was refused, and did not see the answer.
        if matches!(self.granted.try_recv(), Ok(Ok(()))) {
            self.semaphore.release();
        }
    }
}

impl<K: Owner> Drop for Permit<K> {
    fn drop(&mut self) {
        self.0.release();
    }
}
