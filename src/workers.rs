//! One single-threaded runtime a core.
//!
//! A scrape is one task that reads, encrypts and writes: it gains nothing from a second
//! thread. On tokio's multi-threaded runtime each wake-up of that task also wakes an idle worker,
//! which looks for work to steal and finds none: about one futex call per MiB of a fast exporter,
//! and 25 per MiB of a slow one. Here it wakes no thread but its own.

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

/// Threads that run connections. Dropping them ends what still runs on them.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// How many tasks it has.
    load: Arc<AtomicUsize>,
    /// Ends the thread when dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Counts a task of a worker while it lives.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn of(worker: &Worker) -> Self {
        worker.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&worker.load))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows whether workers do their work.
#[derive(Clone, Debug)]
pub struct Pulse(Vec<Handle>);

impl Pulse {
    /// Has every worker run a task, and waits until all have. With one that hangs, or is gone, it
    /// waits for ever. Cancel safe.
    pub async fn beat(&self) {
        // All are asked before one is waited for.
        let tasks: Vec<_> = self.0.iter().map(|runtime| runtime.spawn(async {})).collect();
        for task in tasks {
            if task.await.is_err() {
                std::future::pending().await
            }
        }
    }
}

impl Workers {
    /// Starts `count` threads; one a core when absent.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        keep_freed_memory();
        let count = match count {
            Some(count) => count,
            None => thread::available_parallelism()?,
        };
        (0..count.get()).map(|_| Worker::start()).collect::<io::Result<_>>().map(Self)
    }

    /// How many threads there are.
    #[must_use]
    pub fn count(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// What shows whether they do their work.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.0.iter().map(|worker| worker.runtime.clone()).collect())
    }

    /// Runs a task on the worker that has the fewest.
    ///
    /// The task is made there, inside its runtime: sockets belong to the runtime they are made in.
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

/// A runtime that drops its tasks and waits for nothing.
///
/// A plain one waits, and panics where that is not allowed: in the acceptor's own runtime, where a
/// worker is dropped for which the system refused a thread.
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
        let thread = thread::Builder::new().name("scrapegate".to_owned()).spawn(move || {
            if let Some(runtime) = &runtime.0 {
                // Resolves when the sender is dropped.
                let _ = runtime.block_on(stopped);
            }
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A worker's panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Frees one block of 1 MiB, from which glibc learns to keep that much.
///
/// Its threshold for giving freed memory back to the kernel starts at 128 KiB, less than a scrape
/// frees with each batch, so that each batch was faulted in anew: a fifth of the processor time.
/// The threshold rises to twice the largest block that had pages of its own and was freed
/// (mallopt(3), `M_MMAP_THRESHOLD`): a worker then keeps at most 2 MiB. Other allocators do not
/// mind.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1024 * 1024)));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{collections::HashSet, sync::mpsc};

    use super::*;

    #[test]
    fn tasks_go_to_the_worker_that_has_the_fewest() {
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
    async fn the_pulse_beats_while_every_worker_does_its_work() {
        let workers = Workers::start(NonZeroUsize::new(2)).unwrap();
        let pulse = workers.pulse();
        pulse.beat().await;
        // A task that blocks its thread, as none may.
        let (release, released) = mpsc::channel::<()>();
        let (blocks, blocked) = oneshot::channel();
        workers.spawn(move || async move {
            blocks.send(()).unwrap();
            let _ = released.recv();
        });
        blocked.await.unwrap();
        let mut beat = std::pin::pin!(pulse.beat());
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, beat.as_mut()).await.is_err(), "one is blocked");
        drop(release);
        beat.await;
        drop(workers);
        assert!(tokio::time::timeout(soon, pulse.beat()).await.is_err(), "both are gone");
    }

    #[test]
    fn dropping_them_drops_what_still_runs() {
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
