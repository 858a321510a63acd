//! Worker threads, each with a single-threaded runtime. By default one worker per core.
//!
//! A scrape is one task that reads, encrypts and writes. It gains nothing from a second thread. In
//! tokio's multi-threaded runtime, a wake-up of the task can also wake an idle worker, which finds
//! no work to steal. In a scrape of 100 MiB, other threads then wait 54 to 177 times, instead of 1 to
//! 3 times (`tests/real/system_calls.rs` has a limit). Here, a wake-up affects only the task's own
//! thread.

mod at_rest;

use std::{
    future::Future,
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use self::at_rest::{Ended, Reserve};

/// The threads that run connections. Dropping them also drops the tasks on them.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Number of tasks on this worker.
    load: Arc<AtomicUsize>,
    ended: Arc<Ended>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Counts one task of a worker until it is dropped.
struct Load {
    tasks: Arc<AtomicUsize>,
    ended: Arc<Ended>,
}

impl Load {
    fn of(worker: &Worker) -> Self {
        worker.load.fetch_add(1, Ordering::Relaxed);
        Self { tasks: Arc::clone(&worker.load), ended: Arc::clone(&worker.ended) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.fetch_sub(1, Ordering::Relaxed);
        self.ended.one();
    }
}

/// Checks whether the workers respond.
#[derive(Clone, Debug)]
pub struct Liveness(Vec<Handle>);

impl Liveness {
    /// Runs an empty task on every worker, and waits until all have finished. Waits forever if a
    /// worker hangs or has ended. Cancel safe.
    pub async fn check(&self) {
        // Spawn all tasks before waiting for the first.
        let tasks: Vec<_> = self.0.iter().map(|runtime| runtime.spawn(async {})).collect();
        for task in tasks {
            if task.await.is_err() {
                std::future::pending().await
            }
        }
    }
}

impl Workers {
    /// Starts `count` threads, or one per core if `count` is `None`.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be created.
    pub fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        keep_freed_memory();
        let count = match count {
            Some(count) => count,
            None => thread::available_parallelism()?,
        };
        (0..count.get()).map(|_| Worker::start()).collect::<io::Result<_>>().map(Self)
    }

    /// The number of worker threads.
    #[must_use]
    pub fn count(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// A handle to check whether the workers respond.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        Liveness(self.0.iter().map(|worker| worker.runtime.clone()).collect())
    }

    /// Runs a task on the worker with the fewest tasks.
    ///
    /// `task` is called on that worker, because a socket belongs to the runtime in which it is
    /// created.
    pub fn spawn<F>(&self, task: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let least = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        if let Some(worker) = least {
            let load = Load::of(worker);
            worker.runtime.spawn(async move {
                task().await;
                drop(load);
            });
        }
    }
}

/// A runtime whose drop does not wait for its blocking threads.
///
/// The drop of a plain runtime waits, and therefore panics inside another runtime. That would
/// happen in the acceptor's runtime if the system refuses a thread for a worker.
struct Detached(Option<Runtime>);

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, runtime) = (runtime.handle().clone(), Detached(Some(runtime)));
        let (stop, stopped) = oneshot::channel();
        let ended = Arc::new(Ended::default());
        let counting = Arc::clone(&ended);
        let thread = thread::Builder::new().name("scrapegate".to_owned()).spawn(move || {
            let mut reserve = Reserve::new();
            if let Some(runtime) = &runtime.0 {
                runtime.block_on(async {
                    tokio::select! {
                        // The sender is dropped.
                        _ = stopped => {}
                        never = reserve.exchange_at_rest(&counting) => match never {}
                    }
                });
            }
        })?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { runtime: handle, load: Arc::default(), ended, stop, thread })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The panic hook has already logged a panic of the worker.
            let _ = thread.join();
        }
    }
}

/// Allocates and frees one block of 1 MiB, so that glibc keeps freed memory for reuse.
///
/// glibc returns freed memory to the kernel above a threshold. The threshold starts at 128 KiB,
/// which is less than a scrape frees with each batch. The page faults for each batch then cost a
/// fifth of the CPU time. Freeing a block that was allocated with `mmap` raises the threshold to
/// twice its size (mallopt(3), `M_MMAP_THRESHOLD`). A worker then keeps at most 2 MiB. Other
/// allocators are not affected.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1024 * 1024)));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{collections::HashSet, sync::mpsc};

    use super::*;

    #[test]
    fn a_task_goes_to_the_worker_with_the_fewest() {
        let workers = Workers::start(NonZeroUsize::new(3)).unwrap();
        let (threads, names) = mpsc::channel();
        let (release, released) = tokio::sync::watch::channel(false);
        for _ in 0..3 {
            let (threads, mut released) = (threads.clone(), released.clone());
            workers.spawn(move || async move {
                threads.send(thread::current().id()).unwrap();
                released.wait_for(|released| *released).await.unwrap();
            });
        }
        let used: HashSet<_> = names.iter().take(3).collect();
        assert_eq!(used.len(), 3);
        release.send_replace(true);
    }

    #[tokio::test]
    async fn liveness_is_confirmed_while_every_worker_responds() {
        let workers = Workers::start(NonZeroUsize::new(2)).unwrap();
        let liveness = workers.liveness();
        liveness.check().await;
        // A task that blocks its thread, which tasks must not do.
        let (release, released) = mpsc::channel::<()>();
        let (blocks, blocked) = oneshot::channel();
        workers.spawn(move || async move {
            blocks.send(()).unwrap();
            let _ = released.recv();
        });
        blocked.await.unwrap();
        let mut check = std::pin::pin!(liveness.check());
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, check.as_mut()).await.is_err(), "one is blocked");
        drop(release);
        check.await;
        drop(workers);
        assert!(tokio::time::timeout(soon, liveness.check()).await.is_err(), "both are gone");
    }

    #[test]
    fn dropping_the_workers_drops_their_tasks() {
        struct Dropped(mpsc::Sender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let workers = Workers::start(NonZeroUsize::new(1)).unwrap();
        let (sender, dropped) = mpsc::channel();
        let guard = Dropped(sender);
        workers.spawn(move || async move {
            std::future::pending::<()>().await;
            drop(guard);
        });
        assert!(dropped.try_recv().is_err());
        drop(workers);
        assert_eq!(dropped.try_recv(), Ok(()));
    }
}
