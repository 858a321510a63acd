//! A soak: fifty scrapes a second for a given time, with faults on both sides and a reload every
//! ten seconds.
//!
//! ```sh
//! cargo bench --bench soak                     # half an hour; exit code 1 if a bound is missed
//! cargo bench --bench soak -- --seconds 60     # as CI runs it
//! ```
//!
//! The real binary runs as a child. Scrapers request bodies of 20 kB to 4 MB, over kept and new
//! connections, with both versions of TLS, from exporters over TCP, TLS and a Unix socket. Together
//! with them, at steady rates, there are:
//!
//! - exporters that are down, that close, reset or stall before or within their answer, that do not
//!   speak HTTP, or that break the framing of their body;
//! - scrapers that leave in the middle of a body, clients with another CA's certificate, and bytes
//!   that are not TLS.
//!
//! Each of them has one expected outcome. Any other outcome is a failure. Every ten seconds the
//! files change: exporters, the server's certificate and key, the CRL, and mistakes. The change is
//! applied by a signal, by `POST /-/reload`, or because the proxy notices it. Each change must take
//! effect, and no change may cost a scrape.
//!
//! At the end, the proxy's own counters must agree with what the scrapers saw, and memory,
//! descriptors and threads must be where they were.
//!
//! # What it does not show
//!
//! Half an hour is not a year. Growth below the bound on memory in that time is not detected. The
//! table says how many bytes per scrape that would be.

#![expect(clippy::print_stdout, reason = "the report of this program")]

mod changes;
mod report;
mod samples;
mod scrapers;
mod site;

use std::{process::ExitCode, sync::Arc, thread, time::Duration};

use clap::Parser;
use scrapegate_harness::{
    metrics,
    trial::{span::Span, tally::Tally},
};

use self::{
    samples::Samples,
    scrapers::Scraper,
    site::{Holdings, Site},
};

/// Scrapes through scrapegate for a long time, and reports what happened
#[derive(Debug, Parser)]
struct Args {
    /// Duration in seconds
    #[arg(long, default_value_t = 1800, value_name = "N", value_parser = clap::value_parser!(u64).range(60..))]
    seconds: u64,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let length = Duration::from_secs(Args::parse().seconds);
    let table = report::table(&Course::of(length));
    print!("{table}");
    if table.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The results of a soak.
struct Course {
    length: Duration,
    scrapers: Vec<Arc<Scraper>>,
    changes: Arc<Tally>,
    /// The resources of the proxy, sampled each second.
    samples: Samples,
    /// The proxy's own metrics at the end.
    counted: metrics::Samples,
    /// How often a client was refused because its certificate was revoked.
    refusals: usize,
    /// CPU time of the proxy.
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
