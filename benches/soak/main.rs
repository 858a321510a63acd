//! A soak: fifty scrapes a second for as long as one likes, with faults on both sides and a reload
//! every ten seconds.
//!
//! ```sh
//! cargo bench --bench soak                     # half an hour; exit code 1 when a bound is missed
//! cargo bench --bench soak -- --seconds 60     # as CI does it
//! ```
//!
//! The real binary runs as a child. Scrapers ask it for bodies of 20 kB to 4 MB, over kept and over
//! new connections, in both versions of TLS, from exporters over TCP, TLS and a Unix socket. Among
//! them, at their own steady rates:
//!
//! - exporters that are down, that close, reset or stall before or in their answer, that speak no
//!   HTTP, that break the framing of their body;
//! - scrapers that leave in the middle, strangers with another CA's certificate, bytes that are no
//!   TLS.
//!
//! Each has one outcome that its fault explains; any other is a failure. Every ten seconds the files
//! change: exporters, the server's certificate and key, the revocation list, and mistakes, taken over
//! by signal, on `POST /-/reload` or by the contents alone. Each change has to show, and none may
//! cost a scrape.
//!
//! At the end the proxy's own counters have to agree with what the scrapers saw, and memory,
//! descriptors and threads have to be where they were.
//!
//! # What it does not show
//!
//! Half an hour is not a year. What grows by less than the bound on memory in that time is not
//! seen: the table says how many bytes a scrape that would be.

#![expect(clippy::print_stdout, reason = "a report for people")]

mod changes;
#[path = "../../tests/tls/forge.rs"]
#[expect(dead_code, reason = "shared with the TLS tests, which need more of it")]
mod forge;
mod report;
mod samples;
mod scrapers;
mod site;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../trial/mod.rs"]
mod trial;

use std::{process::ExitCode, sync::Arc, thread, time::Duration};

use clap::Parser;

use self::{
    samples::Samples,
    scrapers::Scraper,
    site::{Holdings, Site},
    support::metrics,
    trial::{span::Span, tally::Tally},
};

/// Scrapes through scrapegate for long, and tells what became of it.
#[derive(Debug, Parser)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 1800, value_name = "N", value_parser = clap::value_parser!(u64).range(60..))]
    seconds: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let length = Duration::from_secs(Args::parse().seconds);
    let table = report::table(&Course::of(length));
    print!("{table}");
    if table.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the soak came to.
struct Course {
    length: Duration,
    scrapers: Vec<Arc<Scraper>>,
    changes: Arc<Tally>,
    /// What the proxy held, each second.
    samples: Samples,
    /// The proxy's own metrics when all is over.
    counted: metrics::Samples,
    /// How often a client was refused because its certificate was revoked.
    refusals: usize,
    /// Processor time of the proxy.
    cpu: Duration,
    before: Holdings,
    after: Holdings,
}

impl Course {
    fn of(length: Duration) -> Self {
        let site = Site::start();
        let before = site.settled();
        let span = Span::begin(length);
        let (scrapers, changes, samples) = thread::scope(|scope| {
            let scrapers = scrapers::send(scope, &site, &span);
            let changes = changes::make(scope, &site, &span);
            (scrapers, changes, Samples::until_over(&site, &span))
        });
        let after = site.at_rest_again(&before);
        let counted = metrics::Samples::of(&mut site.connect().expect("a handshake"));
        Self {
            length,
            scrapers,
            changes,
            samples,
            counted,
            refusals: site.refusals(),
            cpu: site.proxy.cpu_time(),
            before,
            after,
        }
    }
}
