//! A large scrape over a thin link, through scrapegate and through programs that could replace it.
//!
//! Makes two network namespaces with a pair of virtual devices between them, and a token bucket
//! that limits what the host sends. Scrapes 20 MB of metrics through scrapegate, nginx, haproxy and
//! caddy, each with its ways to compress, and checks that the scraper gets the exporter's bytes.
//! Then measures over loopback what a filter of metric families costs. Prints tables, compares
//! scrapegate's figures with its targets, and writes everything as JSON.
//!
//! Run `cargo bench --bench link`; `-- --help` lists the options. Needs root or user namespaces, and
//! the programs `ip` and `tc` of the Debian package iproute2.
//!
//! # What it does not show
//!
//! The link has a rate, but no distance and no loss. Therefore scrapegate's columns use
//! `compression = always`: with `auto`, the round trip would be too short. The text is synthetic:
//! `gzip -1` leaves 2.12 MB of it, `zstd -1` 1.73 MB.

#![expect(clippy::print_stdout, reason = "the report of this program")]
#![expect(clippy::print_stderr, reason = "progress and missing programs")]

mod bars;
mod body;
mod column;
mod exporter;
mod figures;
mod filter;
mod report;
mod scrapes;

use std::path::PathBuf;

use clap::Parser;
use scrapegate_harness::side_by_side::{
    Result,
    credentials::Credentials,
    network::{self, Link, Place},
};

use self::{column::Column, exporter::Exporter, figures::Figures, scrapes::Stage};

/// Compares large scrapes over a thin link
#[derive(Debug, Parser)]
struct Args {
    /// Number of rounds; figures are medians over the rounds
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Rate of the link in Mbit/s
    #[arg(long, default_value_t = 20, value_name = "MBIT")]
    rate: u32,
    /// Length of the body in megabytes
    #[arg(long, default_value_t = 20, value_name = "MB")]
    size: usize,
    /// Numbers of scrapers at once
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N")]
    scrapers: Vec<usize>,
    /// The congestion control [default: the machine's]
    #[arg(long, value_name = "NAME")]
    congestion_control: Option<String>,
    /// Only these columns, such as `scrapegate zstd`; `filter` is one
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    columns: Vec<String>,
    /// Another build of scrapegate to compare with; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    also: Vec<String>,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed, or if a column cannot be measured
    #[arg(long)]
    strict: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let present = network::congestion_control();
    if let Err(error) = network::isolate() {
        eprintln!("CANNOT make network namespaces ({error}): nothing is measured");
        return Ok(());
    }
    let congestion_control = args.congestion_control.clone().unwrap_or(present);
    let setting = format!("{} Mbit/s, TCP congestion control {congestion_control}", args.rate);
    let columns: Vec<_> =
        Column::all(&args.also)?.into_iter().filter(|column| args.wants(&column.name)).collect();
    let folder = tempfile::Builder::new().prefix("scrapegate-link-").tempdir()?;
    let credentials = Credentials::generate(folder.path())?;
    let body = body::exposition(args.size * 1_000_000);
    let mut figures = Figures::default();

    let place = Place::new(Link::Veth, &congestion_control)?;
    place.limit(args.rate)?;
    let exporter = place.on_host(|| Exporter::start(place.address(), &body))?;
    let stage =
        Stage { place: &place, exporter: &exporter, credentials: &credentials, body: &body };
    let mut failed = place.on_scrapers_side(|| measure(&args, &columns, &stage, &mut figures))?;

    if args.wants("filter") {
        let place = Place::new(Link::Loopback, &congestion_control)?;
        let exporter = place.on_host(|| Exporter::start(place.address(), &body))?;
        let stage = Stage { place: &place, exporter: &exporter, ..stage };
        eprintln!("filter: {} rounds", args.rounds);
        let measured =
            place.on_scrapers_side(|| filter::measure(&stage, args.rounds, &mut figures));
        if let Err(error) = measured {
            eprintln!("FAILED: the filter is not measured: {error}");
            failed += 1;
        }
    }

    print!("{}", report::heading(&columns, &setting));
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    for scrapers in &args.scrapers {
        print!("{}", report::table(&scrapes::group(*scrapers), &names, &figures));
    }
    let filters = [filter::NONE, filter::NOTHING, filter::HALF];
    print!("{}", report::table(filter::GROUP, &filters, &figures));
    let verdicts = bars::judge(&figures, &args.scrapers);
    print!("{}", report::verdicts(&verdicts));
    if let Some(path) = &args.json {
        std::fs::write(path, report::json(&columns, &setting, &figures, &verdicts))?;
        eprintln!("figures written to {}", path.display());
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.met()).count();
    if args.strict && missed + failed > 0 {
        return Err(format!("missed targets: {missed}, failed columns: {failed}").into());
    }
    Ok(())
}

/// Round by round, and in each round one column after another, so that other work on the machine
/// affects all columns alike. Returns the number of columns that failed.
fn measure(
    args: &Args,
    columns: &[Column],
    stage: &Stage<'_>,
    figures: &mut Figures,
) -> Result<usize> {
    let mut failed = Vec::new();
    for scrapers in &args.scrapers {
        eprintln!("{}: {} rounds", scrapes::group(*scrapers), args.rounds);
        for _ in 0..args.rounds {
            for column in columns {
                if failed.contains(&&column.name) {
                    continue;
                }
                match scrapes::measure(stage, column, *scrapers, figures) {
                    Ok(()) => {}
                    Err(error) if column.is_ours() => {
                        return Err(format!("{}: {error}", column.name).into());
                    }
                    Err(error) => {
                        eprintln!("FAILED: {} is not compared: {error}", column.name);
                        failed.push(&column.name);
                    }
                }
            }
        }
    }
    Ok(failed.len())
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.columns.is_empty() || self.columns.iter().any(|wanted| wanted == name)
    }
}
