#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{cell::RefCell, future::Future, pin::pin, rc::Rc};

use tokio::{
    task::{JoinHandle, LocalSet, yield_now},
    time::{Duration, timeout},
};

use super::*;

/// The requests that got a permit, in that order.
type Served = Rc<RefCell<Vec<&'static str>>>;

/// Requests a permit for the owner named by the first letter of `name`. Notes in `served` when the
/// permit is granted, and gives the permit back at once.
fn request(
    semaphore: &Arc<FairSemaphore<char>>,
    served: &Served,
    name: &'static str,
) -> JoinHandle<Result<(), QueueFull>> {
    let (semaphore, served) = (Arc::clone(semaphore), Rc::clone(served));
    tokio::task::spawn_local(async move {
        let owner = name.chars().next().unwrap();
        let permit = semaphore.acquire(owner).await?;
        served.borrow_mut().push(name);
        drop(permit);
        Ok(())
    })
}

/// Runs `test` with a semaphore whose only permit is taken. Then gives back the permit, and returns
/// the requests in the order in which they were served.
async fn schedule<F: Future<Output = ()>>(
    most_waiting: usize,
    test: impl FnOnce(Arc<FairSemaphore<char>>, Served) -> F,
) -> Vec<&'static str> {
    let semaphore = FairSemaphore::new(1, most_waiting);
    let permit = semaphore.acquire('-').await.unwrap();
    let served = Served::default();
    LocalSet::new()
        .run_until(async {
            test(Arc::clone(&semaphore), Rc::clone(&served)).await;
            yield_now().await;
            drop(permit);
            // Served after all waiting requests.
            while semaphore.waiting() > 0 {
                yield_now().await;
            }
            yield_now().await;
        })
        .await;
    let state = semaphore.state();
    assert_eq!((state.free, state.waiting.len()), (1, 0));
    assert!(state.round.is_empty() && state.turns.is_empty());
    drop(state);
    served.take()
}

#[tokio::test]
async fn f07_permits_go_round_by_owner_and_within_one_by_arrival() {
    let served = schedule(usize::MAX, async |semaphore, served| {
        for name in ["a1", "a2", "a3", "a4", "b1", "c1", "b2"] {
            request(&semaphore, &served, name);
        }
    });
    assert_eq!(served.await, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
}

#[tokio::test]
async fn f07_one_request_among_a_thousand_of_another_owner_is_served_second() {
    let served = schedule(usize::MAX, async |semaphore, served| {
        for _ in 0..1000 {
            request(&semaphore, &served, "a");
        }
        request(&semaphore, &served, "b");
        while semaphore.waiting() < 1001 {
            yield_now().await;
        }
    });
    let served = served.await;
    assert_eq!((served.len(), &served[..3]), (1001, &["a", "b", "a"][..]));
}

#[tokio::test]
async fn a_dropped_request_loses_its_place_and_the_others_keep_theirs() {
    let served = schedule(usize::MAX, async |semaphore, served| {
        let a1 = request(&semaphore, &served, "a1");
        request(&semaphore, &served, "a2");
        let b1 = request(&semaphore, &served, "b1");
        request(&semaphore, &served, "c1");
        yield_now().await;
        a1.abort();
        b1.abort();
        yield_now().await;
        assert_eq!(semaphore.waiting(), 2);
        assert_eq!(semaphore.state().round.len(), 2);
    });
    assert_eq!(served.await, ["a2", "c1"]);
}

#[tokio::test]
async fn a_permit_for_a_request_that_is_dropped_at_that_moment_goes_to_the_next() {
    let semaphore = FairSemaphore::new(1, usize::MAX);
    let permit = semaphore.acquire('a').await.unwrap();
    let mut leaving = Box::pin(semaphore.acquire('b'));
    assert!(timeout(Duration::ZERO, leaving.as_mut()).await.is_err());
    let mut waiting = pin!(semaphore.acquire('c'));
    assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
    // It is the turn of `b`, which is dropped before it sees its permit.
    drop(permit);
    assert_eq!(semaphore.state().waiting.count(&'b'), 0);
    drop(leaving);
    drop(waiting.await.unwrap());
    assert_eq!(semaphore.state().free, 1);
}

#[tokio::test]
async fn a_full_queue_refuses_the_newest_request_of_the_owner_with_the_most() {
    let served = schedule(3, async |semaphore, served| {
        let [_, _, a3] = ["a1", "a2", "a3"].map(|name| request(&semaphore, &served, name));
        yield_now().await;
        let b1 = request(&semaphore, &served, "b1");
        assert_eq!(a3.await.unwrap(), Err(QueueFull));
        let a4 = request(&semaphore, &served, "a4");
        assert_eq!(a4.await.unwrap(), Err(QueueFull), "a4 is itself the newest");
        assert!(!b1.is_finished());
    });
    assert_eq!(served.await, ["a1", "b1", "a2"]);
}

#[tokio::test]
async fn a_full_queue_of_owners_with_one_request_each_refuses_a_new_request() {
    let served = schedule(3, async |semaphore, served| {
        for name in ["a1", "b1", "c1"] {
            request(&semaphore, &served, name);
        }
        yield_now().await;
        for name in ["d1", "e1"] {
            let newcomer = request(&semaphore, &served, name);
            assert_eq!(newcomer.await.unwrap(), Err(QueueFull), "{name}");
        }
    });
    assert_eq!(served.await, ["a1", "b1", "c1"]);
}

#[tokio::test]
async fn the_number_of_permits_is_constant() {
    let semaphore = FairSemaphore::new(2, 0);
    let one = semaphore.acquire('a').await.unwrap();
    let two = semaphore.acquire('a').await.unwrap();
    assert_eq!(semaphore.acquire('b').await.unwrap_err(), QueueFull);
    drop(one);
    let three = semaphore.acquire('b').await.unwrap();
    drop((two, three));
    assert_eq!(semaphore.state().free, 2);
}
