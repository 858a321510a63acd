//! How many connections there may be: in all, of one address, and in the handshake.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Counts connections. Everything taken is given back on drop.
#[derive(Debug)]
pub struct Admission {
    connections: Arc<Semaphore>,
    most_connections: usize,
    per_ip: u32,
    handshakes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_ip: HashMap<IpAddr, u32>,
    /// Unfinished handshakes, oldest first, each with what evicts it.
    pending: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

/// One connection of one address.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    ip: IpAddr,
    _permit: OwnedSemaphorePermit,
}

/// One unfinished handshake.
#[derive(Debug)]
pub struct HandshakePermit {
    admission: Arc<Admission>,
    id: u64,
}

/// The handshake was the oldest when there were too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("evicted: max-handshakes is reached and this handshake is the oldest")]
pub struct Evicted;

impl Admission {
    /// The three caps of `[proxy]`. Unfinished handshakes have half of the connections at most (but
    /// two can begin at once): whoever says nothing must not keep out who has a certificate.
    #[must_use]
    pub fn new(connections: NonZeroU32, per_ip: NonZeroU32, handshakes: NonZeroU32) -> Arc<Self> {
        let as_usize = |cap: NonZeroU32| usize::try_from(cap.get()).unwrap_or(usize::MAX);
        let most_connections = as_usize(connections).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(most_connections)),
            most_connections,
            per_ip: per_ip.get(),
            handshakes: as_usize(handshakes).min((most_connections / 2).max(2)),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more connection. Cancel safe.
    pub(super) async fn connection(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.connections).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// Room for one more connection, if there is any.
    pub(super) fn connection_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.most_connections - self.connections.available_permits()
    }

    /// Waits until no connection is open. Cancel safe.
    pub async fn all_closed(&self) {
        let all = u32::try_from(self.most_connections).unwrap_or(u32::MAX);
        // Nobody closes the semaphore.
        let _ = self.connections.acquire_many(all).await;
    }

    /// Counts a connection of `ip`, or refuses it.
    pub(super) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<Ticket> {
        let ip = host(ip);
        let mut state = self.state();
        let count = state.by_ip.entry(ip).or_default();
        if *count >= self.per_ip {
            return None;
        }
        *count += 1;
        drop(state);
        Some(Ticket { admission: Arc::clone(self), ip, _permit: permit })
    }

    /// Counts a handshake and, when there are too many, evicts the oldest. The second value
    /// resolves when this one is to give way.
    pub fn handshake(
        self: &Arc<Self>,
    ) -> (HandshakePermit, impl Future<Output = Evicted> + Send + use<>) {
        let (evict, evicted) = oneshot::channel();
        let mut state = self.state();
        if state.pending.len() >= self.handshakes
            && let Some((_, oldest)) = state.pending.pop_first()
        {
            // It may have finished in this moment.
            let _ = oldest.send(());
        }
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, evict);
        drop(state);
        let permit = HandshakePermit { admission: Arc::clone(self), id };
        let evicted = async {
            match evicted.await {
                Ok(()) => Evicted,
                Err(_) => std::future::pending().await,
            }
        };
        (permit, evicted)
    }
}

/// What counts as one address: of IPv6 the /64, because that is what one host is given.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if let Some(count) = state.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                state.by_ip.remove(&self.ip);
            }
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.admission.state().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn admission(connections: u32, per_ip: u32, handshakes: u32) -> Arc<Admission> {
        let cap = |n| NonZeroU32::new(n).unwrap();
        Admission::new(cap(connections), cap(per_ip), cap(handshakes))
    }

    #[tokio::test]
    async fn an_address_gets_its_share_and_gives_it_back() {
        let admission = admission(10, 2, 1);
        let v4 = "192.0.2.1".parse().unwrap();
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let one = admission.admit(v4, admission.connection().await).unwrap();
        let _two = admission.admit(mapped, admission.connection().await).unwrap();
        assert!(admission.admit(v4, admission.connection().await).is_none());
        let other = "192.0.2.2".parse().unwrap();
        assert!(admission.admit(other, admission.connection().await).is_some());
        drop(one);
        assert!(admission.admit(v4, admission.connection().await).is_some());
        assert_eq!(admission.connections.available_permits(), 9);
    }

    #[test]
    fn handshakes_have_half_of_the_connections_at_most_but_two_can_begin() {
        for (connections, handshakes, expected) in [(10, 9, 5), (10, 4, 4), (5, 9, 2), (1, 9, 2)] {
            assert_eq!(admission(connections, 1, handshakes).handshakes, expected);
        }
    }

    #[tokio::test]
    async fn all_are_closed_when_the_last_is() {
        let admission = admission(3, 3, 1);
        let at_once = std::time::Duration::ZERO;
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!(admission.open_connections(), 0);
        let one = admission.admit(ip, admission.connection().await).unwrap();
        let two = admission.admit(ip, admission.connection().await).unwrap();
        assert_eq!(admission.open_connections(), 2);
        drop(one);
        assert!(tokio::time::timeout(at_once, admission.all_closed()).await.is_err());
        drop(two);
        assert!(tokio::time::timeout(at_once, admission.all_closed()).await.is_ok());
        assert!(admission.state().by_ip.is_empty());
    }

    #[tokio::test]
    async fn ipv6_counts_by_its_64_bit_prefix() {
        let admission = admission(10, 1, 1);
        let _one =
            admission.admit("2001:db8::1".parse().unwrap(), admission.connection().await).unwrap();
        let same = "2001:db8::ffff:1".parse().unwrap();
        assert!(admission.admit(same, admission.connection().await).is_none());
        let next = "2001:db8:0:1::1".parse().unwrap();
        assert!(admission.admit(next, admission.connection().await).is_some());
    }

    #[tokio::test]
    async fn the_oldest_unfinished_handshake_gives_way() {
        let admission = admission(10, 10, 2);
        let (one, one_evicted) = admission.handshake();
        let (two, two_evicted) = admission.handshake();
        drop(one);
        let (_three, three_evicted) = admission.handshake();
        let (_four, _) = admission.handshake();
        assert_eq!(two_evicted.await, Evicted);
        drop(two);
        let (_five, _) = admission.handshake();
        assert_eq!(three_evicted.await, Evicted);
        assert_eq!(admission.state().pending.len(), 2);
        let never = tokio::time::timeout(std::time::Duration::from_millis(10), one_evicted);
        assert!(never.await.is_err(), "a finished handshake was evicted");
    }
}
