#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, pin::pin, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use super::*;
use crate::{common::deadline::Budget, http::access::Access};

/// The lowest cost that bcrypt allows.
const COST: u32 = 4;

fn authorization(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

fn given(credentials: &str) -> HeaderMap {
    let engine = &base64::engine::general_purpose::STANDARD;
    authorization(&format!("Basic {}", base64::Engine::encode(engine, credentials)))
}

/// A scraper. Each number has its own address.
fn peer(number: u8) -> Peer {
    Peer { address: ([192, 0, 2, number], 1).into(), identity: None }
}

fn in_a_minute() -> Deadline {
    Deadline::after(Instant::now(), Budget::new(Duration::from_secs(60)).unwrap())
}

fn hashed(password: &str) -> BasicAuth {
    let hash = bcrypt::hash(password, COST).unwrap();
    BasicAuth { user: "user".to_owned(), password: Password::Bcrypt(hash) }
}

#[tokio::test]
async fn basic_requires_the_right_user_and_password() {
    let plain =
        BasicAuth { user: "user".to_owned(), password: Password::Plain("pass:word".to_owned()) };
    for expected in [plain, hashed("pass:word")] {
        let access = Access::new(Vec::new(), Some(expected));
        // Twice, because the second answer comes from the accepted credentials.
        for _ in 0..2 {
            // user:pass:word
            let right = authorization("bAsIc dXNlcjpwYXNzOndvcmQ=");
            assert!(access.check(&peer(1), &right, in_a_minute()).await.is_ok());
            for wrong in [
                "Basic dXNlcjpwYXNzOndvcmQx",
                "Basic dXNlcjE6cGFzczp3b3Jk",
                "Basic dXNlcg==",
                "Basic !",
                "Bearer dXNlcjpwYXNzOndvcmQ=",
                "Basic",
            ] {
                let refusal = access.check(&peer(1), &authorization(wrong), in_a_minute()).await;
                assert!(matches!(refusal, Err(Refusal::Unauthorized)), "{wrong}");
            }
            let none = access.check(&peer(1), &HeaderMap::new(), in_a_minute()).await;
            assert!(matches!(none, Err(Refusal::Unauthorized)));
        }
    }
}

/// Basic authentication whose only permit for a check is in use, until the second value is dropped.
async fn blocked() -> (Access, impl Sized) {
    let access = Access::new(Vec::new(), Some(hashed("secret")));
    let queue = Arc::clone(&checks(&access).queue);
    let permit = queue.acquire(Host::of([203, 0, 113, 1].into())).await.unwrap();
    (access, permit)
}

fn checks(access: &Access) -> &Arc<Checks> {
    &access.basic.as_ref().unwrap().checks
}

/// Polls once. `None` means that the check waits.
async fn now<F: Future>(checking: F) -> Option<F::Output> {
    timeout(Duration::ZERO, checking).await.ok()
}

#[tokio::test]
async fn f05_a_password_that_was_accepted_does_not_wait_for_other_checks() {
    let access = Access::new(Vec::new(), Some(hashed("secret")));
    let right = given("user:secret");
    access.check(&peer(1), &right, in_a_minute()).await.unwrap();
    let queue = Arc::clone(&checks(&access).queue);
    let _permit = queue.acquire(Host::of([203, 0, 113, 1].into())).await.unwrap();
    let mut guess = pin!(request(&access, 1, "user:wrong".to_owned()));
    assert!(now(guess.as_mut()).await.is_none());
    for number in 1..10 {
        let checked = now(access.check(&peer(number), &right, in_a_minute())).await;
        assert!(matches!(checked, Some(Ok(()))), "{checked:?}");
    }
}

#[tokio::test]
async fn f05_requests_with_the_same_credentials_share_one_check() {
    for (credentials, is_right) in [("user:secret", true), ("user:wrong", false)] {
        let (access, permit) = blocked().await;
        let access = Arc::new(access);
        let all: Vec<_> = (0..200)
            .map(|number| {
                let access = Arc::clone(&access);
                tokio::spawn(async move {
                    access.check(&peer(number), &given(credentials), in_a_minute()).await
                })
            })
            .collect();
        while Arc::strong_count(&access) < 201 || checks(&access).queue.waiting() == 0 {
            yield_now().await;
        }
        assert_eq!(checks(&access).queue.waiting(), 1);
        // The first request leaves, and another one takes over its check.
        all[0].abort();
        drop(permit);
        for one in all.into_iter().skip(1) {
            assert_eq!(one.await.unwrap().is_ok(), is_right);
        }
        assert!(checks(&access).lock_pending().is_empty());
    }
}

/// A request from this address.
async fn request(access: &Access, from: u8, credentials: String) -> Result<(), Refusal> {
    access.check(&peer(from), &given(&credentials), in_a_minute()).await
}

#[tokio::test]
async fn f05_a_full_queue_refuses_the_address_with_most_guesses_and_no_other() {
    let is_full = |outcome: Option<Result<(), Refusal>>| {
        matches!(outcome, Some(Err(Refusal::Unchecked(Unchecked::QueueFull))))
    };
    let (access, permit) = blocked().await;
    let mut guesses: Vec<_> =
        (0..60).map(|number| Box::pin(request(&access, 1, format!("user:{number}")))).collect();
    for (number, guess) in guesses.iter_mut().enumerate() {
        assert_eq!(is_full(now(guess).await), number >= MOST_WAITING, "{number}");
    }
    let mut scraper = pin!(request(&access, 2, "user:secret".to_owned()));
    assert!(now(scraper.as_mut()).await.is_none());
    assert!(is_full(now(&mut guesses[MOST_WAITING - 1]).await), "the newest check gives way");
    drop(guesses);
    drop(permit);
    assert!(scraper.await.is_ok());
}

#[tokio::test]
async fn f05_a_check_whose_client_left_does_not_run() {
    let (access, permit) = blocked().await;
    for number in 0..150 {
        let guess = request(&access, 1, format!("user:{number}"));
        assert!(now(guess).await.is_none());
    }
    assert_eq!(checks(&access).queue.waiting(), 0);
    assert!(checks(&access).lock_pending().is_empty());
    drop(permit);
    assert!(request(&access, 1, "user:secret".to_owned()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn f05_a_check_that_does_not_get_its_turn_ends_at_the_deadline() {
    let (access, _permit) = blocked().await;
    let begun = Instant::now();
    let deadline = Deadline::after(begun, Budget::new(Duration::from_secs(5)).unwrap());
    let refusal = access.check(&peer(1), &given("user:secret"), deadline).await;
    assert!(matches!(refusal, Err(Refusal::Unchecked(Unchecked::TooLate))), "{refusal:?}");
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(checks(&access).queue.waiting(), 0);
}

#[tokio::test]
async fn f05_the_result_of_a_check_is_kept_even_if_its_request_left() {
    let access = Access::new(Vec::new(), Some(hashed("secret")));
    let right = given("user:secret");
    while !checks(&access).accepts(&sha256(b"user:secret")) {
        // The request begins and leaves at once.
        assert!(!matches!(now(access.check(&peer(1), &right, in_a_minute())).await, Some(Err(_))));
        yield_now().await;
    }
}

#[tokio::test]
async fn f05_a_reload_keeps_accepted_credentials_and_the_queue_of_checks() {
    let auth = hashed("secret");
    let before = Access::new(Vec::new(), Some(auth.clone()));
    before.check(&peer(1), &given("user:secret"), in_a_minute()).await.unwrap();
    let mut same = Access::new(Vec::new(), Some(auth));
    same.continue_from(&before);
    assert!(checks(&same).accepts(&sha256(b"user:secret")));
    let mut other = Access::new(Vec::new(), Some(hashed("other")));
    other.continue_from(&before);
    assert!(!checks(&other).accepts(&sha256(b"user:secret")));
    assert!(Arc::ptr_eq(&checks(&other).queue, &checks(&before).queue));
    let mut without = Access::default();
    without.continue_from(&before);
    assert!(without.basic.is_none());
}

/// The CPU time of this thread. Other programs on the machine do not affect it.
#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

#[cfg(target_os = "linux")]
#[test]
fn f05_a_wrong_user_takes_as_long_as_a_wrong_password() {
    let hash = bcrypt::hash("secret", 8).unwrap();
    let fastest = |user_is_right, password: &str| {
        let guess =
            Guess { print: [0; 32], user_is_right, password: password.into(), hash: hash.clone() };
        let times = (0..5).map(|_| {
            let begun = cpu_time();
            assert_eq!(guess.is_right(), user_is_right && password == "secret");
            cpu_time() - begun
        });
        times.min().unwrap()
    };
    let [user, password, both] =
        [(false, "secret"), (true, "wrong"), (false, "wrong")].map(|(u, p)| fastest(u, p));
    assert!(user > password / 2 && both > password / 2, "{user:?}, {password:?}, {both:?}");
}

#[test]
fn a_check_that_nobody_waits_for_is_forgotten_when_another_joins() {
    let checks = Checks::new(FairSemaphore::new(1, 1), Threads::new("test", 1));
    let first = checks.join([1; 32]);
    // Left behind, as by two shares that are dropped at the same time.
    checks.lock_pending().insert([2; 32], Weak::new());
    let second = checks.join([3; 32]);
    let mut known: Vec<u8> = checks.lock_pending().keys().map(|print| print[0]).collect();
    known.sort_unstable();
    assert_eq!(known, [1, 3]);
    drop((first, second));
    assert!(checks.lock_pending().is_empty());
}
