//! Gives memory back to the system after many connections have ended, if the allocator is glibc.
//!
//! glibc returns only what lies above the last block in use, and each thread caches freed blocks, which
//! count as in use: up to [`CACHED`] of each size up to [`LARGEST_CACHED`] bytes (tcache; glibc manual,
//! "Memory Allocation Tunables"). After a thousand connections, such blocks lie everywhere in the heap,
//! and nearly all of it stays with the process.
//!
//! So each worker reserves as many blocks of each size as its thread can cache. It does this when it
//! starts, so they lie at the beginning of the heap. When many connections have ended, the worker takes
//! all blocks out of the cache and frees the reserved ones, which fill the cache. The others are then
//! really free, and glibc returns the heap above the last block that scrapegate uses.
//!
//! `malloc_trim` would do the same and more, but its call is `unsafe`. `benches/README.md`,
//! "Allocators", has the figures. With another allocator, the exchange has no effect.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// Number of blocks of one size that a thread caches (`glibc.malloc.tcache_count`).
const CACHED: usize = 7;

/// Size of the largest cached blocks, in bytes (`glibc.malloc.tcache_max`).
const LARGEST_CACHED: usize = 1032;

/// The sizes of blocks are this number of bytes apart.
const STEP: usize = 16;

/// Size of the smallest blocks, in bytes.
const SMALLEST: usize = 24;

/// Number of sizes.
const SIZES: usize = (LARGEST_CACHED - SMALLEST) / STEP + 1;

/// Number of tasks of one worker that end before memory is worth giving back. 16 connections that
/// stopped reading hold about 1 MiB.
const MANY: usize = 16;

/// How long no task may have ended before. While tasks end, others usually begin.
const REST: Duration = Duration::from_secs(1);

/// glibc joins freed blocks and returns memory when a block of at least 64 KiB is freed.
const JOINS: usize = 128 * 1024;

/// Counts the tasks of a worker that have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    count: AtomicUsize,
    many: Notify,
}

impl Ended {
    /// A task has ended.
    pub(super) fn one(&self) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before.wrapping_add(1) % MANY == 0 {
            self.many.notify_one();
        }
    }

    /// Waits until the number of ended tasks has passed a multiple of [`MANY`], and then until none has
    /// ended for [`REST`]. Cancel safe.
    async fn rest(&self) {
        self.many.notified().await;
        let count = || self.count.load(Ordering::Relaxed);
        let mut before = count();
        loop {
            sleep(REST).await;
            let now = count();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// The reserved blocks of a worker.
#[derive(Debug)]
pub(super) struct Reserve(Vec<Vec<u8>>);

impl Reserve {
    /// Reserves the blocks. Call this in the thread of the worker, before other allocations.
    pub(super) fn new() -> Self {
        let mut blocks = Vec::with_capacity(CACHED * SIZES);
        blocks.extend(one_cache());
        Self(blocks)
    }

    /// Exchanges the blocks each time when many tasks have ended.
    pub(super) async fn exchange_at_rest(&mut self, ended: &Ended) -> Infallible {
        loop {
            ended.rest().await;
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        // Neither list grows, because that would allocate and free small blocks in between.
        let mut scattered = Vec::with_capacity(CACHED * SIZES);
        scattered.extend(one_cache());
        // These fill the empty cache.
        self.0.clear();
        // These do not fit into the cache any more.
        drop(scattered);
        self.0.extend(one_cache());
        drop(black_box(Vec::<u8>::with_capacity(JOINS)));
    }
}

/// Allocates as many blocks of each size as a thread caches. Takes those in the cache first.
fn one_cache() -> impl Iterator<Item = Vec<u8>> {
    (0..SIZES * CACHED).map(|at| {
        let size = SMALLEST + at / CACHED * STEP;
        black_box(Vec::with_capacity(size))
    })
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_rests_when_many_tasks_have_ended_and_then_none_for_a_second() {
        let ended = Ended::default();
        let mut rest = std::pin::pin!(ended.rest());
        let mut is_at_rest = || {
            use std::future::Future as _;
            rest.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        (1..MANY).for_each(|_| ended.one());
        assert!(!is_at_rest());
        advance(REST).await;
        assert!(!is_at_rest(), "too few have ended");
        ended.one();
        assert!(!is_at_rest());
        advance(REST / 2).await;
        ended.one();
        advance(REST / 2).await;
        assert!(!is_at_rest(), "one has just ended");
        advance(REST - Duration::from_millis(1)).await;
        assert!(!is_at_rest());
        advance(Duration::from_millis(1)).await;
        assert!(is_at_rest());
    }

    /// The resident memory of this process in MiB.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib = line.trim().trim_end_matches(" kB");
        kib.parse::<usize>().expect("a number") / 1024
    }

    /// In a process of its own, because the threads of other tests allocate in the same heaps.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn blocks_that_a_thread_caches_do_not_keep_the_heap_after_an_exchange() {
        const ALONE: &str = "SCRAPEGATE_TEST_ALONE";
        const NAME: &str = "blocks_that_a_thread_caches_do_not_keep_the_heap_after_an_exchange";
        if std::env::var_os(ALONE).is_none() {
            let mut test = std::process::Command::new(std::env::current_exe().expect("a path"));
            let output = test.arg(NAME).env(ALONE, "1").output().expect("started");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        const BLOCK: usize = 16 * 1024;
        const ALL: usize = 128 << 20;
        let measure = || {
            let mut reserve = Reserve::new();
            let before = resident();
            let pair = |at: usize| {
                let size = SMALLEST + at * STEP % LARGEST_CACHED;
                (black_box(vec![1_u8; BLOCK]), black_box(vec![1_u8; size]))
            };
            let mut all: Vec<_> = (0..ALL / BLOCK).map(pair).collect();
            // The last blocks first, so that the cache has blocks from the end of the heap.
            while all.pop().is_some() {}
            let (kept, now) = (resident().saturating_sub(before), {
                reserve.exchange();
                resident().saturating_sub(before)
            });
            (kept, now)
        };
        let (kept, now) = std::thread::spawn(measure).join().expect("no panic");
        assert!(kept > 96, "{kept} MiB before the exchange: it would have no effect");
        assert!(now < 32, "{now} MiB");
    }

    #[test]
    fn the_reserve_has_all_blocks_that_a_thread_caches() {
        let mut reserve = Reserve::new();
        for _ in 0..2 {
            let sizes: Vec<usize> = reserve.0.iter().map(Vec::capacity).collect();
            assert_eq!((sizes.len(), sizes[0], sizes[447]), (64 * 7, 24, 1032));
            reserve.exchange();
        }
    }
}
