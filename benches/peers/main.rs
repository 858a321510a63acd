//! The same scrapes through scrapegate and through what an operator could put in its place.
//!
//! Starts nginx, haproxy, caddy, exporter_exporter, scrapegate and a floor program on this
//! machine, all with the same certificates, mutual TLS 1.3 and AES-128-GCM, in front of one
//! synthetic exporter, and sends each the same scrapes in turn, round after round. Prints a table,
//! holds scrapegate's figures against the bars it has set itself, and writes everything as JSON.
//!
//! `cargo bench --bench peers`; `-- --help` for the rest. Installs nothing: a peer that is not
//! there is left out and named.
//!
//! # What it does not show
//!
//! Exporter, proxy and scraper share one machine's cores and its loopback device: there is no
//! network card, no loss and no distance. Times and throughput move with whatever else the machine
//! does; processor time hardly does, and only ratios within one run are worth comparing.

#![expect(clippy::print_stdout, reason = "a report for people")]
#![expect(clippy::print_stderr, reason = "what it is doing, and which peers are missing")]

mod bars;
mod credentials;
mod exporter;
mod figures;
mod floor;
mod memory;
mod peer;
mod process;
mod report;
mod rounds;
mod scraper;
mod workload;

use std::{error::Error, path::PathBuf};

use clap::Parser;

use self::{credentials::Credentials, exporter::Exporter, peer::Peer};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Compares scrapegate with its peers, side by side on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// How often each scrape is sent through each peer; figures are medians over the rounds
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<String>,
    /// Only these workloads; `memory` and `start` count as such
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    workloads: Vec<String>,
    /// A further build of scrapegate, to compare two; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    also: Vec<String>,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails when a bar is missed
    #[arg(long)]
    strict: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Serves as the floor program, for the bench's own use
    #[arg(long, hide = true, value_name = "FOLDER")]
    serve_floor: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(folder) = &args.serve_floor {
        return floor::serve(folder);
    }
    let folder = tempfile::Builder::new().prefix("scrapegate-peers-").tempdir()?;
    let credentials = Credentials::generate(folder.path())?;
    let exporter = Exporter::start(&credentials)?;
    let peers = Peer::all(&args.also)?
        .into_iter()
        .filter(|peer| args.peers.is_empty() || args.peers.iter().any(|name| *name == peer.name()))
        .collect::<Vec<_>>();
    let wanted = |name: &str| {
        args.workloads.is_empty() || args.workloads.iter().any(|wanted| wanted == name)
    };

    let mut figures = rounds::run(&peers, &exporter, &credentials, args.rounds, wanted)?;
    if wanted("memory") {
        memory::measure(&peers, &exporter, &credentials, &mut figures)?;
    }
    if wanted("start") {
        memory::time_starts(&peers, &exporter, &credentials, &mut figures)?;
    }

    print!("{}", report::tables(&peers, &figures));
    let verdicts = bars::judge(&figures);
    print!("{}", report::verdicts(&verdicts));
    if let Some(path) = &args.json {
        std::fs::write(path, report::json(&peers, &figures, &verdicts))?;
        eprintln!("figures written to {}", path.display());
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.met()).count();
    if args.strict && missed > 0 {
        return Err(format!("{missed} bars missed").into());
    }
    Ok(())
}
