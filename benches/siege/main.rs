//! A siege: all that hostile peers do, at once, while two scrapers go on scraping.
//!
//! ```sh
//! cargo bench --bench siege                     # a minute; exit code 1 when a bound is missed
//! cargo bench --bench siege -- --seconds 40     # as CI does it
//! ```
//!
//! The real binary runs as a child with the limits that it has by default. Against it stand, each
//! from addresses of its own in 127.0.0.0/8:
//!
//! - 2 000 connections that say nothing, or half a ClientHello, renewed in time; the proxy keeps the
//!   newest `max-handshakes` of them;
//! - 300 bad handshakes a second: a foreign CA, no certificate, bytes that are no TLS;
//! - 500 slow readers of a body without an end, begun again as its deadline ends them;
//! - 200 authenticated connections that send one byte of a header a second, renewed likewise;
//! - a `SIGHUP` a second, with files that change, one time in three for the worse;
//! - an exporter that stalls and one that resets in mid-body, scraped all the time.
//!
//! A scrape each 100 ms over a new connection and one over a kept connection have to succeed each
//! time and fast, memory has to stay bounded, and when all have left, everything has to be as before.
//!
//! There are two sieges, each of half the time. The first is of the proxy as it is. glibc keeps the
//! memory that it once needed, because each thread holds small freed pieces back and the large ones
//! lie below them. So the second is of a proxy whose allocator is told to keep nothing
//! (`GLIBC_TUNABLES`): what is resident there when all have left is what is in use, and the pages
//! that it shares with what is free.
//!
//! Each siege comes in two waves. Memory that only lies about is used again by the second; memory
//! that leaks in the first leaks in the second once more. So what is resident after the second wave
//! may be no more than after the first, but for a few pages.
//!
//! # What it does not show
//!
//! Besiegers, exporters and proxy share one machine's cores: the times of the scrapes hold what the
//! besiegers themselves cost, and on a busy machine what its other programs do. How late the
//! machine wakes a thread that only sleeps is in the table too.
//!
//! The kernel's memory is not counted. For a reader that is slow, an exporter's send buffer fills up
//! too, and by itself grows to megabytes (`tcp_wmem`): 500 of them took a machine with 24 GiB to the
//! end of its `tcp_mem`, where every connection suffers. A low `max-concurrent` is what bounds that;
//! here the exporter has a small buffer, so that the siege is of the proxy.

#![expect(clippy::print_stdout, reason = "a report for people")]

mod besiegers;
#[path = "../../tests/tls/forge.rs"]
#[expect(dead_code, reason = "shared with the TLS tests, which need more of it")]
mod forge;
mod fortress;
mod report;
mod scrapers;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../trial/mod.rs"]
mod trial;

use std::{
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::{
    besiegers::Force,
    fortress::{Allocator, Fortress, Holdings, Record},
    trial::{span::Span, tally::Tally},
};

/// Descriptors that this process and the proxy each need.
const DESCRIPTORS: u64 = 8192;

/// How often the proxy's memory is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Lays siege to scrapegate, and tells what it held.
#[derive(Debug, Parser)]
struct Args {
    /// How long, both sieges together
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(40..))]
    seconds: u64,
    /// Given by `cargo bench`
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
        .flat_map(|allocator| besiege(allocator, length))
        .collect();
    let table = report::table(&waves);
    print!("{table}");
    if table.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two waves, each of that length, against one proxy.
fn besiege(allocator: Allocator, length: Duration) -> [Wave; 2] {
    let fortress = Fortress::start(allocator);
    let first = Wave::strike(&fortress, Order::First, length);
    [first, Wave::strike(&fortress, Order::Second, length)]
}

/// Which wave of a siege.
#[derive(Clone, Copy, Debug)]
enum Order {
    First,
    Second,
}

/// One wave of a siege, and what it came to.
struct Wave {
    allocator: Allocator,
    order: Order,
    length: Duration,
    forces: Vec<Arc<Force>>,
    scrapers: [Arc<Tally>; 2],
    glances: Glances,
    /// What the proxy did in this time.
    record: Record,
    /// What it held before, at most may hold when all have left, and held then.
    before: Holdings,
    most: Holdings,
    after: Holdings,
    /// How long it took to come to rest.
    rested: Duration,
}

impl Wave {
    fn strike(fortress: &Fortress, order: Order, length: Duration) -> Self {
        let before = fortress.settled();
        let most = fortress.most_at_rest(order, &before);
        let earlier = fortress.record();
        let siege = Span::begin(length);
        let (forces, scrapers, glances) = thread::scope(|scope| {
            let forces = besiegers::send(scope, fortress, &siege);
            let scrapers = scrapers::send(scope, fortress, &siege);
            (forces, scrapers, Glances::until_over(fortress, &siege))
        });
        let ended = Instant::now();
        let after = fortress.at_rest_again(&most, ended);
        Self {
            allocator: fortress.allocator,
            order,
            length,
            forces,
            scrapers,
            glances,
            record: fortress.record().since(&earlier),
            before,
            most,
            after,
            rested: ended.elapsed(),
        }
    }
}

/// What was seen now and then.
#[derive(Default)]
struct Glances {
    /// The largest resident memory of the proxy, in KiB.
    rss_kib: u64,
    /// How late each glance was, shortest first.
    lateness: Vec<Duration>,
}

impl Glances {
    fn until_over(fortress: &Fortress, siege: &Span) -> Self {
        let mut seen = Self::default();
        let begun = Instant::now();
        for (number, _) in siege.beat(GLANCE).enumerate() {
            let due = GLANCE * u32::try_from(number).unwrap_or(u32::MAX);
            seen.lateness.push(begun.elapsed().saturating_sub(due));
            seen.rss_kib = seen.rss_kib.max(fortress.proxy.rss_kib());
        }
        seen.lateness.sort_unstable();
        seen
    }
}

/// Lifts the soft limit on open descriptors to the hard one, for the proxy too, which inherits it.
fn raise_limit() -> Result<(), String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if hard < DESCRIPTORS {
        return Err(format!("{DESCRIPTORS} descriptors are needed, `ulimit -Hn` allows {hard}"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|error| error.to_string())
}
