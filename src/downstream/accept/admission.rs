//! Limits on connections: in total, for each address, and in the handshake.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::common::{fair::Groups, peer::Host};

/// Counts open connections and unfinished handshakes. A [`Ticket`] and a [`HandshakePermit`] give
/// back what they took when they are dropped.
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
    by_host: HashMap<Host, u32>,
    /// Unfinished handshakes. Sending on the channel evicts the handshake.
    pending: Groups<Host, oneshot::Sender<()>>,
}

/// One open connection. Counts against `max-connections` and against the limit of its address until
/// it is dropped.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    host: Host,
    _permit: OwnedSemaphorePermit,
}

/// One unfinished handshake. Counts against `max-handshakes` until it is dropped.
#[derive(Debug)]
pub struct HandshakePermit {
    admission: Arc<Admission>,
    host: Host,
    number: u64,
}

/// The handshake was evicted: more than `max-handshakes` handshakes were unfinished, and this one
/// was the oldest of the address with the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "evicted: max-handshakes reached; of the address with the most unfinished handshakes, this one \
     was the oldest"
)]
pub struct Evicted;

/// The possible eviction of one handshake.
#[derive(Debug)]
pub struct Eviction(oneshot::Receiver<()>);

impl Eviction {
    /// Waits until the handshake is evicted. Waits forever once its [`HandshakePermit`] is dropped.
    pub async fn wait(self) -> Evicted {
        match self.0.await {
            Ok(()) => Evicted,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Admission {
    /// Creates the limits from three keys of `[proxy]`: `max-connections`, `max-connections-per-ip`
    /// and `max-handshakes`.
    ///
    /// Unfinished handshakes get at most half of `max-connections`, but always at least two.
    /// Clients that never finish a handshake must not lock out clients that have a certificate.
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

    /// Waits for a free connection permit. Cancel safe.
    pub(super) async fn connection(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.connections).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes a connection permit, if one is free.
    pub(super) fn connection_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// The number of open connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.most_connections - self.connections.available_permits()
    }

    /// Waits until no connection is open. Cancel safe.
    pub async fn all_closed(&self) {
        let all = u32::try_from(self.most_connections).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.connections.acquire_many(all).await;
    }

    /// Counts a connection of `ip`. Returns `None` if the address already has
    /// `max-connections-per-ip`.
    pub(super) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<Ticket> {
        let host = Host::of(ip);
        let mut state = self.state();
        let count = state.by_host.entry(host).or_default();
        if *count >= self.per_ip {
            return None;
        }
        *count += 1;
        drop(state);
        Some(Ticket { admission: Arc::clone(self), host, _permit: permit })
    }

    /// Counts an unfinished handshake of `ip`, until the permit is dropped.
    ///
    /// Above the limit, the address with the most unfinished handshakes loses its oldest. A flood
    /// from one address therefore evicts its own handshakes, and all other clients have the time
    /// that they need. The caller must give up the handshake when it is evicted.
    pub fn handshake(self: &Arc<Self>, ip: IpAddr) -> (HandshakePermit, Eviction) {
        let host = Host::of(ip);
        let (evict, evicted) = oneshot::channel();
        let mut state = self.state();
        let number = state.pending.insert(host, evict);
        // Count the new handshake too. Otherwise an address could stay level with another address
        // and still evict the other's handshakes.
        if state.pending.len() > self.handshakes {
            let largest = state.pending.largest();
            if let Some(oldest) = largest.and_then(|it| state.pending.pop_oldest(&it)) {
                // The handshake may have finished at this moment.
                let _ = oldest.send(());
            }
        }
        drop(state);
        let permit = HandshakePermit { admission: Arc::clone(self), host, number };
        (permit, Eviction(evicted))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if let Some(count) = state.by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                state.by_host.remove(&self.host);
            }
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.admission.state().pending.remove(&self.host, self.number);
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
    fn unfinished_handshakes_get_at_most_half_of_the_connections_and_at_least_two() {
        for (connections, handshakes, expected) in [(10, 9, 5), (10, 4, 4), (5, 9, 2), (1, 9, 2)] {
            assert_eq!(admission(connections, 1, handshakes).handshakes, expected);
        }
    }

    #[tokio::test]
    async fn all_closed_resolves_when_the_last_connection_closes() {
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
        assert!(admission.state().by_host.is_empty());
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

    /// A distinct address for each number.
    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[tokio::test]
    async fn the_oldest_unfinished_handshake_of_an_address_is_evicted() {
        let admission = admission(10, 10, 2);
        let (one, one_evicted) = admission.handshake(address(1));
        let (two, two_evicted) = admission.handshake(address(1));
        drop(one);
        let (_three, three_evicted) = admission.handshake(address(1));
        let (_four, _) = admission.handshake(address(1));
        assert_eq!(two_evicted.wait().await, Evicted);
        drop(two);
        let (_five, _) = admission.handshake(address(1));
        assert_eq!(three_evicted.wait().await, Evicted);
        assert_eq!(admission.state().pending.len(), 2);
        let never = tokio::time::timeout(std::time::Duration::from_millis(10), one_evicted.wait());
        assert!(never.await.is_err(), "a finished handshake was evicted");
    }

    /// Begins one handshake for each address in `by`, with at most `most` unfinished ones. Returns
    /// the indices of those that were evicted.
    fn evicted(most: u32, by: &[u8]) -> Vec<usize> {
        let admission = admission(100, 100, most);
        let mut begun = Vec::new();
        for &number in by {
            let (permit, evicted) = admission.handshake(address(number));
            begun.push((permit, Box::pin(evicted.wait())));
        }
        assert!(admission.state().pending.len() <= most as usize);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut is_evicted =
            |at: usize| begun[at].1.as_mut().poll(&mut context) == std::task::Poll::Ready(Evicted);
        (0..by.len()).filter(|&at| is_evicted(at)).collect()
    }

    #[test]
    fn f07_the_address_with_the_most_unfinished_handshakes_loses_its_oldest() {
        // A slow client during a flood.
        assert_eq!(evicted(4, &[1, 9, 9, 9, 9, 9, 9]), [1, 2, 3]);
        assert_eq!(evicted(4, &[9, 9, 1, 9, 9, 9, 9]), [0, 1, 3]);
        // The new handshake evicts one of its own address, not the only one of another address.
        assert_eq!(evicted(2, &[1, 9, 9]), [1]);
        // Among addresses with equally many handshakes, the oldest of all.
        assert_eq!(evicted(2, &[1, 2, 3, 4]), [0, 1]);
        // Two floods share the limit.
        assert_eq!(evicted(4, &[8, 9, 8, 9, 8, 9, 1]), [0, 1, 2]);
    }

    #[test]
    fn f07_the_addresses_of_one_ipv6_network_are_one_address() {
        let admission = admission(100, 100, 2);
        let [slow, one, other] = ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:2::2"]
            .map(|ip| admission.handshake(ip.parse().unwrap()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let is_evicted = [slow.1, one.1, other.1]
            .map(|it| Box::pin(it.wait()).as_mut().poll(&mut context).is_ready());
        assert_eq!(is_evicted, [false, true, false]);
    }

    #[test]
    fn f07_the_handshake_to_evict_is_found_at_once_among_thousands() {
        let admission = admission(100_000, 100_000, 4096);
        let mut kept = std::collections::VecDeque::new();
        let begun = std::time::Instant::now();
        for number in 0..100_000_u32 {
            kept.push_back(admission.handshake(number.to_be_bytes().into()).0);
            if kept.len() > 4096 {
                kept.pop_front();
            }
        }
        assert_eq!(admission.state().pending.len(), 4096);
        // About one microsecond for each; a linear search would take a hundred times as long.
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        drop(kept);
        assert_eq!(admission.state().pending.len(), 0);
    }
}
