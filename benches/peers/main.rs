//! The same scrapes through scrapegate and through the programs that could replace it.
//!
//! Starts nginx, haproxy, caddy, exporter_exporter, scrapegate and a floor program on this machine,
//! all with the same certificates, mutual TLS 1.3 and AES-128-GCM, in front of one synthetic
//! exporter. Sends each of them the same scrapes in turn, round after round. Prints tables,
//! compares scrapegate's figures with its targets, and writes everything as JSON.
//!
//! Run `cargo bench --bench peers`; `-- --help` lists the options. The bench installs nothing. It
//! names the peers that are missing and omits them.
//!
//! # What it does not show
//!
//! Exporter, proxy and scraper share the cores of one machine and its loopback device: there is no
//! network card, no loss and no distance. Times and throughput vary with other work on the machine.
//! CPU time hardly varies, and only ratios within one run are comparable.

#![expect(clippy::print_stdout, reason = "the report of this program")]
#![expect(clippy::print_stderr, reason = "progress and missing peers")]

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

/// Compares scrapegate with other proxies on this machine
#[derive(Debug, Parser)]
struct Args {
    /// Number of rounds; figures are medians over the rounds
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<String>,
    /// Only these workloads; `memory` and `start` count as such
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    workloads: Vec<String>,
    /// Another build of scrapegate to compare with; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    also: Vec<String>,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the floor program; used by the bench itself
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
        return Err(format!("{missed} targets missed").into());
    }
    Ok(())
}
