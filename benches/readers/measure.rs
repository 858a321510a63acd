//! The measurements: over loopback, in memory, and of readers whose scraper does not read.

use std::{env, future::poll_fn, net::SocketAddr, process::Command, sync::Arc, time::Duration};

use nix::{
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
};
use scrapegate::{
    scrape::{SMALLEST_BATCH, source::Source},
    upstream,
};
use scrapegate_harness::in_memory::{
    counted::{Calls, Exporter, Pace, Stream},
    rig::runtime,
};
use stats_alloc::Region;
use tokio::runtime::Builder;

use crate::{
    ALLOCATOR,
    drain::{Batch, Drained, drain},
    reader::{self, Parser, Reader},
    workload::Workload,
};

/// The two sizes in MiB whose counts are subtracted, so that connecting is not counted.
const FEW: usize = 2;
const MANY: usize = 6;

/// Readers whose scraper does not read.
const STALLED: usize = 64;

/// Bytes that such a reader has passed on before.
const BEFORE_STALL: usize = 1 << 20;

/// One body over loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverLoopback {
    /// CPU seconds of the reader's thread per GB.
    pub(crate) cpu: f64,
    /// How often the reader's thread waited, per MiB.
    pub(crate) waits: f64,
    /// How often the reader's task was polled, per MiB.
    pub(crate) polls: f64,
}

/// Reads one body over loopback, on this thread.
pub(crate) fn over_loopback(
    reader: Reader,
    workload: Workload,
    address: SocketAddr,
) -> OverLoopback {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (cpu, waits) = (cpu_time(), waits());
    let drained = runtime.block_on(async {
        match reader {
            Reader::Own => {
                drain(&mut reader::own_over_tcp(address).await.expect("a response")).await
            }
            Reader::Hyper(size) => {
                let body = reader::hyper_over_tcp(address, size).await;
                drain(&mut body.expect("a response")).await
            }
        }
    });
    let (cpu, waits) = (cpu_time() - cpu, self::waits() - waits);
    assert_whole(drained, workload.mib);
    let per_mib = |count: f64| count / workload.mib as f64;
    OverLoopback {
        cpu: cpu.as_secs_f64() / (drained.bytes as f64 / 1e9),
        waits: per_mib(waits as f64),
        polls: per_mib(drained.polls as f64),
    }
}

fn assert_whole(drained: Drained, mib: usize) {
    let Drained { bytes, end, .. } = drained;
    assert!(end.is_ok() && bytes == (mib as u64) << 20, "{drained:?} of {mib} MiB");
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock of this thread").into()
}

fn waits() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD)
        .expect("the usage of this thread")
        .voluntary_context_switches()
}

/// One body between streams in memory, per MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InMemory {
    pub(crate) reads: f64,
    pub(crate) allocations: f64,
    pub(crate) allocated: f64,
}

/// Reads a body of `mib` MiB in memory.
///
/// # Panics
///
/// If the body is not complete.
pub(crate) fn read_in_memory(reader: Reader, workload: Workload, mib: usize, calls: &Arc<Calls>) {
    let exporter = Exporter::new(workload.message(mib), Pace::AtOnce);
    let stream = Stream::new(exporter, Arc::clone(calls));
    let drained = runtime().block_on(async {
        match reader {
            Reader::Own => {
                let stream = upstream::Stream::other(stream);
                drain(&mut reader::own(stream).await.expect("a response")).await
            }
            Reader::Hyper(size) => {
                let body = reader::hyper(stream, size, Parser::Default).await;
                drain(&mut body.expect("a response")).await
            }
        }
    });
    assert_whole(drained, mib);
}

/// Counts what a MiB costs in memory.
pub(crate) fn in_memory(reader: Reader, workload: Workload) -> InMemory {
    let count = |mib| {
        let calls = Arc::new(Calls::default());
        let region = Region::new(ALLOCATOR);
        read_in_memory(reader, workload, mib, &calls);
        let change = region.change();
        [calls.reads(), change.allocations + change.reallocations, change.bytes_allocated]
    };
    count(FEW);
    let (few, many) = (count(FEW), count(MANY));
    let [reads, allocations, allocated] =
        std::array::from_fn(|i| many[i].saturating_sub(few[i]) as f64 / (MANY - FEW) as f64);
    InMemory { reads, allocations, allocated }
}

/// Counts the instructions for a MiB in memory, with valgrind. `None` without valgrind.
pub(crate) fn instructions(reader: usize, workload: usize) -> Option<f64> {
    let count = |mib: usize| {
        let output = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(env::current_exe().ok()?)
            .args(["--child", &reader.to_string(), &workload.to_string(), &mib.to_string()])
            .output()
            .ok()?;
        let report = String::from_utf8_lossy(&output.stderr);
        report.lines().find_map(|line| {
            line.split_once("refs:")?.1.trim().replace(',', "").parse::<u64>().ok()
        })
    };
    let (few, many) = (count(FEW)?, count(MANY)?);
    Some(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
}

/// The heap memory in bytes of each reader whose scraper does not read any more, without the
/// batches that the scraper did not accept.
pub(crate) fn stalled(reader: Reader, workload: Workload) -> f64 {
    // Initializes everything that exists once per process.
    read_in_memory(reader, workload, FEW, &Arc::default());
    let message = workload.message(MANY);
    let region = Region::new(ALLOCATOR);
    let runtime = runtime();
    let mut sources: Vec<Box<dyn Source>> = Vec::with_capacity(STALLED);
    for _ in 0..STALLED {
        let exporter = Exporter::new(message.clone(), Pace::AtOnce);
        let stream = Stream::new(exporter, Arc::default());
        sources.push(runtime.block_on(async {
            match reader {
                Reader::Own => {
                    let body = reader::own(upstream::Stream::other(stream)).await;
                    stall(body.expect("a response")).await
                }
                Reader::Hyper(size) => {
                    let body = reader::hyper(stream, size, Parser::Default).await;
                    stall(body.expect("a response")).await
                }
            }
        }));
    }
    let change = region.change();
    let held = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    drop(sources);
    held as f64 / STALLED as f64
}

/// Reads for a scraper whose socket accepts little at once, and then no more.
async fn stall(mut source: impl Source + 'static) -> Box<dyn Source> {
    let (mut passed, mut batch) = (0, Batch::default());
    poll_fn(|cx| batch.poll(&mut source, SMALLEST_BATCH, cx).map_ok(|length| passed += length))
        .await;
    while passed < BEFORE_STALL {
        let next = poll_fn(|cx| batch.poll(&mut source, SMALLEST_BATCH, cx)).await;
        passed += next.expect("more of the body").expect("no error");
    }
    source.release();
    Box::new(source)
}
