//! HTTP Basic (RFC 7617). All comparisons are of digests and take constant time.
//!
//! A bcrypt check takes tens to hundreds of milliseconds of CPU time, by design. Therefore:
//!
//! - Credentials that were accepted before are looked up first, without waiting.
//! - One check runs at a time, on its own thread. Guesses use at most one core.
//! - The queue of checks is short, and takes turns by address. If it is full, a request gets 503. A
//!   client that guesses delays each other address by at most one check.
//! - Requests with the same credentials share one check.
//! - If a client leaves before the turn of its check, the check does not run.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use aws_lc_rs::digest::{SHA256, digest};
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;
use tokio::{sync::OnceCell, time::timeout_at};

use crate::{
    common::{
        blocking::Threads,
        deadline::Deadline,
        error::{Refusal, Unchecked},
        fair::FairSemaphore,
        peer::{Host, Peer},
    },
    config::{BasicAuth, Password},
};

/// The largest number of checks that wait. At 0.25 s for each, as with bcrypt's usual cost of 12,
/// the last check waits eight seconds.
const MOST_WAITING: usize = 32;

#[derive(Debug)]
pub(super) struct Basic {
    expected: BasicAuth,
    checks: Arc<Checks>,
}

/// SHA-256 of `user:password`.
type Print = [u8; 32];

/// The checks of passwords against one bcrypt hash.
struct Checks {
    queue: Arc<FairSemaphore<Host>>,
    threads: Threads,
    /// The last accepted credentials. Neither this lock nor the next one is held across an await.
    accepted: Mutex<Option<Print>>,
    /// Checks that wait or run. Requests with the same credentials wait for the same cell.
    pending: Mutex<HashMap<Print, Weak<OnceCell<bool>>>>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checks(…)")
    }
}

impl Basic {
    pub(super) fn new(expected: BasicAuth) -> Self {
        let checks = Checks::new(
            FairSemaphore::new(1, MOST_WAITING),
            // The queue alone decides when a check begins.
            Threads::new("password check", 1),
        );
        Self { expected, checks: Arc::new(checks) }
    }

    pub(super) fn continue_from(&mut self, before: &Self) {
        self.checks = if self.expected == before.expected {
            Arc::clone(&before.checks)
        } else {
            let Checks { queue, threads, .. } = &*before.checks;
            Arc::new(Checks::new(Arc::clone(queue), threads.clone()))
        };
    }

    pub(super) async fn check(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        let given = credentials(headers).ok_or(Refusal::Unauthorized)?;
        let mut halves = given.splitn(2, |&byte| byte == b':');
        let (Some(user), Some(password)) = (halves.next(), halves.next()) else {
            return Err(Refusal::Unauthorized);
        };
        let user_is_right = equal(user, self.expected.user.as_bytes());
        let is_right = match &self.expected.password {
            Password::Plain(expected) => user_is_right & equal(password, expected.as_bytes()),
            Password::Bcrypt(hash) => {
                let print = sha256(&given);
                let guess =
                    Guess { print, user_is_right, password: password.to_vec(), hash: hash.clone() };
                self.checks.accepts(&print)
                    || timeout_at(
                        deadline.instant(),
                        self.checks.verdict(Host::of(peer.address.ip()), guess),
                    )
                    .await
                    .unwrap_or(Err(Unchecked::TooLate))?
            }
        };
        if is_right { Ok(()) } else { Err(Refusal::Unauthorized) }
    }
}

/// Credentials, and the hash that they must match.
struct Guess {
    print: Print,
    user_is_right: bool,
    password: Vec<u8>,
    hash: String,
}

impl Guess {
    /// A wrong user takes as long as a wrong password, so that the time does not reveal which users
    /// exist.
    fn is_right(&self) -> bool {
        // An error of bcrypt counts as a wrong password, because the hash was validated when it was
        // read.
        let password_is_right = bcrypt::verify(&self.password, &self.hash).unwrap_or(false);
        self.user_is_right & password_is_right
    }
}

impl Checks {
    fn new(queue: Arc<FairSemaphore<Host>>, threads: Threads) -> Self {
        Self { queue, threads, accepted: Mutex::default(), pending: Mutex::default() }
    }

    fn lock_accepted(&self) -> MutexGuard<'_, Option<Print>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pending(&self) -> MutexGuard<'_, HashMap<Print, Weak<OnceCell<bool>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these credentials were accepted before.
    fn accepts(&self, print: &Print) -> bool {
        self.lock_accepted().is_some_and(|accepted| accepted.ct_eq(print).into())
    }

    /// Waits for the check of `guess`, which the request runs itself or shares with another
    /// request.
    ///
    /// Dropping the future leaves the check to the other requests that wait for it. Without other
    /// requests, a check that waits does not begin.
    async fn verdict(self: &Arc<Self>, host: Host, guess: Guess) -> Result<bool, Unchecked> {
        let pending = self.join(guess.print);
        pending.cell.get_or_try_init(|| self.run(host, guess)).await.copied()
    }

    async fn run(self: &Arc<Self>, host: Host, guess: Guess) -> Result<bool, Unchecked> {
        let permit = self.queue.acquire(host).await?;
        // Another check with these credentials may have finished after its request had left.
        if self.accepts(&guess.print) {
            return Ok(true);
        }
        let checks = Arc::clone(self);
        let check = move || {
            let is_right = guess.is_right();
            // Stored here, so that the result is kept even if the check takes longer than its
            // request waits.
            if is_right {
                *checks.lock_accepted() = Some(guess.print);
            }
            // Moved into the closure, so that the next check waits for this one even if its request
            // left.
            drop(permit);
            is_right
        };
        Ok(self.threads.run(check).await?)
    }

    fn join(&self, print: Print) -> Pending<'_> {
        let mut pending = self.lock_pending();
        let cell = match pending.get(&print).and_then(Weak::upgrade) {
            Some(cell) => cell,
            None => {
                // If two shares are dropped at the same time, both may leave their entry.
                pending.retain(|_, cell| cell.strong_count() > 0);
                let cell = Arc::default();
                pending.insert(print, Arc::downgrade(&cell));
                cell
            }
        };
        drop(pending);
        Pending { checks: self, print, cell }
    }
}

/// One request's share of a check.
struct Pending<'a> {
    checks: &'a Checks,
    print: Print,
    cell: Arc<OnceCell<bool>>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut pending = self.checks.lock_pending();
        // Other requests join only while they hold the lock.
        if Arc::strong_count(&self.cell) == 1 {
            pending.remove(&self.print);
        }
    }
}

/// The decoded `user:password` of a single `Authorization: Basic` header.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, token.trim()).ok()
}

fn sha256(bytes: &[u8]) -> Print {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, bytes).as_ref());
    print
}

/// Compares digests, so that the time does not reveal the length either.
fn equal(one: &[u8], two: &[u8]) -> bool {
    sha256(one).ct_eq(&sha256(two)).into()
}
