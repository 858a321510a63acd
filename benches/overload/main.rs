//! An overload test: all attacks of hostile peers at once, while two scrapers continue to scrape.
//!
//! ```sh
//! cargo bench --bench overload                  # one minute; exit code 1 if a bound is missed
//! cargo bench --bench overload -- --seconds 40  # as CI runs it
//! ```
//!
//! The real binary runs as a child with its default limits. It is attacked, each attack from its
//! own addresses in 127.0.0.0/8, by:
//!
//! - 2 000 connections that send nothing or half a ClientHello, and are opened again in time; the
//!   proxy keeps the newest `max-handshakes` of them;
//! - 300 bad handshakes a second: a foreign CA, no certificate, bytes that are not TLS;
//! - 500 slow readers of an endless body, started again when the deadline ends them;
//! - 200 authenticated connections that send one byte of a header each second, and are opened again
//!   when they end;
//! - one `SIGHUP` a second after a change of the files; every third change is invalid;
//! - scrapes of an exporter that stalls and of one that resets within the body, all the time.
//!
//! Every 100 ms there is one scrape over a new connection and one over a kept connection. Each of
//! them must succeed and be fast. Memory must stay bounded. When all attackers have left,
//! everything must be as before.
//!
//! There are two runs, each of half the time. The first one attacks the proxy with its usual
//! allocator. glibc then keeps memory that the proxy no longer needs, because each thread caches
//! small freed allocations above the large ones. The second run therefore attacks a proxy whose
//! allocator keeps nothing (`GLIBC_TUNABLES`). Its resident memory after the attack is the memory
//! in use, and the pages that it shares with free memory.
//!
//! Each run has two waves. The second wave reuses memory that was only left over from the first
//! wave, but it leaks again what the first wave leaked. Therefore resident memory after the second
//! wave must not be higher than after the first, except for a few pages.
//!
//! # What it does not show
//!
//! Attackers, exporters and proxy share the cores of one machine. The times of the scrapes include
//! the cost of the attackers and, on a busy machine, of other programs. The table also shows how
//! late the machine wakes a thread that only sleeps.
//!
//! The kernel's memory is not counted. For a slow reader, the exporter's send buffer fills too, and
//! grows to megabytes (`tcp_wmem`): 500 of them brought a machine with 24 GiB to the limit of its
//! `tcp_mem`, where every connection suffers. Only a low `max-concurrent` limits this. Here the
//! exporter has a small buffer, so that only the proxy is tested.

#![expect(clippy::print_stdout, reason = "the report of this program")]

mod attackers;
mod report;
mod scrapers;
mod target;

use std::{
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use scrapegate_harness::trial::{span::Span, tally::Tally};

use self::{
    attackers::Attack,
    target::{Allocator, Holdings, Record, Target},
};

/// File descriptors that this process and the proxy each need.
const DESCRIPTORS: u64 = 8192;

/// How often the memory of the proxy is sampled.
const GLANCE: Duration = Duration::from_millis(100);

/// Attacks scrapegate with many hostile clients at once, and reports how it held up
#[derive(Debug, Parser)]
struct Args {
    /// Duration of both runs together, in seconds
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(40..))]
    seconds: u64,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(why) = raise_limit() {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    let length = Duration::from_secs(args.seconds) / 4;
    let waves: Vec<_> = [Allocator::Usual, Allocator::Exact]
        .into_iter()
        .flat_map(|allocator| attack_twice(allocator, length))
        .collect();
    let table = report::table(&waves);
    print!("{table}");
    if table.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs two waves of this length against one proxy.
fn attack_twice(allocator: Allocator, length: Duration) -> [Wave; 2] {
    let target = Target::start(allocator);
    let first = Wave::run(&target, Order::First, length);
    [first, Wave::run(&target, Order::Second, length)]
}

/// The wave of a run.
#[derive(Clone, Copy, Debug)]
enum Order {
    First,
    Second,
}

/// One wave of a run, and its results.
struct Wave {
    allocator: Allocator,
    order: Order,
    length: Duration,
    attacks: Vec<Arc<Attack>>,
    scrapers: [Arc<Tally>; 2],
    glances: Glances,
    /// What the proxy did during the wave.
    record: Record,
    /// The resources of the proxy before the wave, the limit after it, and the resources after it.
    before: Holdings,
    most: Holdings,
    after: Holdings,
    /// The time until the resources were within the limit.
    rested: Duration,
}

impl Wave {
    fn run(target: &Target, order: Order, length: Duration) -> Self {
        let before = target.settled();
        let most = target.most_at_rest(order, &before);
        let earlier = target.record();
        let span = Span::begin(length);
        let (attacks, scrapers, glances) = thread::scope(|scope| {
            let attacks = attackers::start(scope, target, &span);
            let scrapers = scrapers::start(scope, target, &span);
            (attacks, scrapers, Glances::until_over(target, &span))
        });
        let ended = Instant::now();
        let after = target.at_rest_again(&most, ended);
        Self {
            allocator: target.allocator,
            order,
            length,
            attacks,
            scrapers,
            glances,
            record: target.record().since(&earlier),
            before,
            most,
            after,
            rested: ended.elapsed(),
        }
    }
}

/// Samples taken at regular intervals.
#[derive(Default)]
struct Glances {
    /// The largest resident memory of the proxy, in KiB.
    rss_kib: u64,
    /// How late each sample was taken, sorted.
    lateness: Vec<Duration>,
}

impl Glances {
    fn until_over(target: &Target, span: &Span) -> Self {
        let mut seen = Self::default();
        let begun = Instant::now();
        for (number, _) in span.beat(GLANCE).enumerate() {
            let due = GLANCE * u32::try_from(number).unwrap_or(u32::MAX);
            seen.lateness.push(begun.elapsed().saturating_sub(due));
            seen.rss_kib = seen.rss_kib.max(target.proxy.rss_kib());
        }
        seen.lateness.sort_unstable();
        seen
    }
}

/// Raises the soft limit on open files to the hard limit. The proxy inherits the limit.
fn raise_limit() -> Result<(), String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if hard < DESCRIPTORS {
        return Err(format!("{DESCRIPTORS} descriptors are needed, `ulimit -Hn` allows {hard}"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|error| error.to_string())
}
