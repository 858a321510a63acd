//! Bounds the memory of the proxy's own responses that clients request and do not read.
//!
//! An exporter's body streams through in bounded memory. The proxy builds its own pages whole, and
//! with hundreds of exporters `/metrics` has megabytes. Therefore a page counts until the socket
//! has accepted all of it, and a page above the limit is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::common::peer::Host;

/// Limit for the pages of all addresses together, in bytes. The first pages of further addresses
/// may exceed it, up to twice the limit.
const MOST: u64 = 16 * 1024 * 1024;

/// Limit for the pages of one address, in bytes. An address may always have one page.
const MOST_OF_ONE: u64 = MOST / 2;

/// Pages of at most this size, in bytes, do not count. A connection itself costs as much.
const SMALL: u64 = 16 * 1024;

/// Counts the bytes of the proxy's own pages that are not sent yet, in total and for each address.
#[derive(Debug, Default)]
pub struct OwnAnswers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    by_host: HashMap<Host, u64>,
    /// The size of the last page that counted, in bytes.
    last: u64,
}

impl State {
    fn has_room(&self, host: Host, bytes: u64) -> bool {
        let own = self.by_host.get(&host).copied().unwrap_or_default();
        // First pages may exceed the common limit, up to twice as much. Otherwise a few addresses
        // that do not read could keep every other address from its first page.
        let is_first = own == 0 && self.bytes <= 2 * MOST;
        is_first || (self.bytes + bytes <= MOST && own + bytes <= MOST_OF_ONE)
    }
}

/// Counts a page until it is dropped.
#[derive(Debug)]
pub struct AnswerPermit {
    all: Arc<OwnAnswers>,
    host: Host,
    bytes: u64,
}

impl OwnAnswers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a page as large as the last one would be accepted. Callers check before they build a
    /// page, because building costs more than refusing.
    #[must_use]
    pub fn has_room(&self, host: Host) -> bool {
        let state = self.state();
        state.has_room(host, state.last)
    }

    /// Counts a page of `bytes` bytes for `host`. Returns `None` if the page would exceed a limit.
    #[must_use]
    pub fn hold(self: &Arc<Self>, host: Host, bytes: u64) -> Option<AnswerPermit> {
        let bytes = if bytes <= SMALL { 0 } else { bytes };
        if bytes > 0 {
            let mut state = self.state();
            if !state.has_room(host, bytes) {
                return None;
            }
            state.last = bytes;
            state.bytes += bytes;
            *state.by_host.entry(host).or_default() += bytes;
        }
        Some(AnswerPermit { all: Arc::clone(self), host, bytes })
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut state = self.all.state();
        state.bytes -= self.bytes;
        if let Some(own) = state.by_host.get_mut(&self.host) {
            *own -= self.bytes;
            if *own == 0 {
                state.by_host.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn host(number: u8) -> Host {
        Host::of([192, 0, 2, number].into())
    }

    #[test]
    fn f23_one_address_gets_at_most_half_of_the_limit_and_other_addresses_their_first_page() {
        let all = Arc::<OwnAnswers>::default();
        let pages = |number| -> Vec<_> {
            std::iter::from_fn(|| all.hold(host(number), MIB)).take(100).collect()
        };
        let (first, second) = (pages(1), pages(2));
        assert_eq!((first.len(), second.len()), (8, 8));
        // Every further address gets one page, up to twice the limit. After that, an address gets
        // none.
        let further: Vec<_> = (3..100).flat_map(pages).collect();
        assert_eq!(further.len(), 17);
        assert!(all.hold(host(100), MIB).is_none());
        let small: Vec<_> = (0..1000).filter_map(|_| all.hold(host(100), SMALL)).collect();
        assert_eq!(small.len(), 1000);
        drop((first, second, further, small));
        let state = all.state();
        assert!(state.bytes == 0 && state.by_host.is_empty());
    }

    #[test]
    fn f23_an_address_gets_a_page_of_any_size_but_only_one_at_a_time() {
        let all = Arc::<OwnAnswers>::default();
        let page = all.hold(host(1), 10 * MOST);
        assert!(page.is_some() && all.hold(host(1), 10 * MOST).is_none());
        assert!(!all.has_room(host(1)));
        drop(page);
        assert!(all.has_room(host(1)) && all.hold(host(1), 10 * MOST).is_some());
    }
}
