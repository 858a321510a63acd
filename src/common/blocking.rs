//! Work that blocks its thread: reading files, looking up names, checking passwords.
//!
//! Each piece of work gets a thread of its own. tokio's `spawn_blocking` is not used, for two
//! reasons. It panics when the system refuses a thread (`RLIMIT_NPROC`, `TasksMax`), and the drop
//! of a runtime waits for its blocking threads: one that hangs on a dead network file system would
//! keep the process from ending. Here a refusal is an error, and nothing waits for a thread.

use std::{io, sync::Arc, thread};

use tokio::sync::{Semaphore, oneshot};

/// Why a piece of work has no result.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// The system refused a thread, so the work was not started.
    #[error("the system refused a thread for the {purpose}")]
    NoThread {
        /// What the thread was for.
        purpose: &'static str,
        /// Why it was refused.
        source: io::Error,
    },
    /// The work panicked. The panic hook has logged why.
    #[error("the {purpose} panicked")]
    Panicked {
        /// What the thread was for.
        purpose: &'static str,
    },
}

/// Threads for one purpose. The number of threads at a time is limited. Clones share the limit.
///
/// Work that hangs keeps its place until it returns. The limit is therefore also the largest number
/// of threads that can hang for this purpose.
#[derive(Clone, Debug)]
pub struct Threads {
    purpose: &'static str,
    places: Arc<Semaphore>,
}

impl Threads {
    /// `purpose` completes the sentence "the system refused a thread for the …", and is the name of
    /// the thread. At most `at_once` threads run at a time.
    #[must_use]
    pub fn new(purpose: &'static str, at_once: usize) -> Self {
        Self { purpose, places: Arc::new(Semaphore::new(at_once)) }
    }

    /// Waits for a place, without a time limit. Then runs `work` on a new thread and returns its
    /// result.
    ///
    /// Dropping the future before the work has begun cancels the work. Dropping it later discards
    /// the result, but does not stop the work. The process exits without waiting for the work.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let Self { purpose, places } = self;
        // The semaphore is never closed, so this cannot fail.
        let place = Arc::clone(places).acquire_owned().await;
        let (sender, result) = oneshot::channel();
        let spawned = thread::Builder::new().name((*purpose).to_owned()).spawn(move || {
            let result = work();
            // Release the place first, so that it is free when the caller has the result.
            drop(place);
            // An error means that the caller no longer waits.
            let _ = sender.send(result);
        });
        match spawned {
            // The thread is detached.
            Ok(_) => result.await.map_err(|_| BlockingError::Panicked { purpose }),
            Err(source) => Err(BlockingError::NoThread { purpose, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        pin::pin,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
    };

    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn work_has_a_result_or_has_panicked() {
        let threads = Threads::new("test", 1);
        assert_eq!(threads.run(|| 7).await.unwrap(), 7);
        let outcome = threads.run(|| panic!("on purpose")).await;
        assert!(matches!(outcome, Err(BlockingError::Panicked { purpose: "test" })));
        assert_eq!(threads.run(|| 8).await.unwrap(), 8, "the place is free again");
    }

    #[tokio::test]
    async fn at_most_as_many_pieces_of_work_run_at_once_as_there_are_places() {
        let threads = Threads::new("test", 2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(std::time::Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let all: Vec<_> = (0..20)
            .map(|_| {
                let (threads, work) = (threads.clone(), work());
                tokio::spawn(async move { threads.run(work).await })
            })
            .collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn work_that_waits_for_a_place_is_canceled_with_its_future() {
        let threads = Threads::new("test", 1);
        let (release, released) = mpsc::channel::<()>();
        let mut first = pin!(threads.run(move || released.recv()));
        let (ran, runs) = mpsc::channel();
        let waiting = async {
            let second = threads.run(move || ran.send(()));
            tokio::select! {
                biased;
                _ = first.as_mut() => unreachable!("it is not released"),
                _ = second => unreachable!("its place is taken"),
                () = tokio::task::yield_now() => {}
            }
        };
        waiting.await;
        drop(release);
        assert!(first.await.unwrap().is_err(), "the sender was dropped");
        threads.run(|| ()).await.unwrap();
        assert!(runs.recv().is_err(), "the second never ran");
    }

    #[test]
    fn f03_the_end_of_a_runtime_does_not_wait_for_work_that_hangs() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let threads = Threads::new("test", 1);
        let (begun, begins) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        runtime.block_on(async {
            let work = threads.run(move || {
                let _ = begun.send(());
                let _ = released.recv();
            });
            tokio::select! {
                _ = work => unreachable!("it hangs"),
                _ = begins => {}
            }
        });
        // With tokio's `spawn_blocking`, this would wait forever.
        drop(runtime);
        drop(release);
    }
}
