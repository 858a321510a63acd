//! The same scrapes through scrapegate and through the programs that could replace it.
//!
//! Starts nginx, haproxy, caddy, exporter_exporter, scrapegate and a floor program on this machine,
//! all with the same certificates, mutual TLS 1.3 and AES-128-GCM, in front of one synthetic
//! exporter. Sends each of them the same scrapes in turn, round after round: under the machine's
//! congestion control or those that the options name, over the loopback device and over a pair of
//! virtual devices with an MTU of 1500. For this, it makes network namespaces of its own. Prints
//! tables, compares scrapegate's figures with its targets, and writes everything as JSON.
//!
//! Run `cargo bench --bench peers`; `-- --help` lists the options. The bench installs nothing. It
//! names the peers that are missing and omits them.
//!
//! # What it does not show
//!
//! Exporter, proxy and scraper share the cores of one machine: there is no network card, no loss
//! and no distance. Times, throughput and the busy time of the whole machine vary with other work
//! on the machine. The proxy's CPU time hardly varies. Only ratios within one run are comparable.

#![expect(clippy::print_stdout, reason = "the report of this program")]
#![expect(clippy::print_stderr, reason = "progress and missing peers")]

mod bars;
mod exporter;
mod figures;
mod floor;
mod growth;
mod memory;
mod peer;
mod report;
mod rounds;
mod workload;

use std::{error::Error, fmt, path::PathBuf};

use clap::{Parser, ValueEnum};
use scrapegate_harness::side_by_side::{
    credentials::Credentials,
    network::{self, Link, Place},
    programs::Running,
};

use self::{
    bars::Verdict,
    exporter::{Answers, Exporter},
    figures::Figures,
    floor::Floor,
    growth::Series,
    peer::Peer,
    workload::Workload,
};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Compares scrapegate with other proxies on this machine
#[derive(Debug, Parser)]
struct Args {
    /// Number of rounds; figures are medians over the rounds
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// The congestion controls, or `all` that a network namespace may select [default: the
    /// machine's]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    congestion_control: Vec<String>,
    /// What connects the scraper with the host of proxy and exporter
    #[arg(long, value_delimiter = ',', default_value = "loopback,veth", value_name = "LINK")]
    link: Vec<LinkName>,
    /// Only these peers; `floor` has a name for each size of its reads, such as `floor-64k`
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<String>,
    /// Only these workloads; `memory`, `start`, `grow-scrapers`, `grow-exporters` and `grow-size`
    /// count as such
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
    #[arg(long, hide = true)]
    serve_floor: Option<Floor>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinkName {
    /// The loopback device
    Loopback,
    /// A pair of virtual devices with an MTU of 1500 bytes
    Veth,
}

/// Under what the scrapes run.
#[derive(Clone, Debug)]
struct Setting {
    congestion_control: String,
    link: Link,
    /// Whether this is the first link. What hardly depends on the link is measured only there.
    is_first: bool,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.congestion_control, self.link)
    }
}

/// Who takes part under one setting.
struct Stage<'a> {
    peers: &'a [Peer],
    place: &'a Place,
    exporter: &'a Exporter,
    credentials: &'a Credentials,
}

impl Stage<'_> {
    fn start(&self, peer: &Peer) -> Result<Running> {
        self.start_with(peer, self.credentials)
    }

    fn start_with(&self, peer: &Peer, credentials: &Credentials) -> Result<Running> {
        peer.start(self.place, self.exporter, credentials)
    }
}

/// What was measured under one setting.
struct Measured {
    setting: Setting,
    figures: Figures,
    series: Vec<Series>,
    verdicts: Vec<Verdict>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(floor) = &args.serve_floor {
        return floor.serve();
    }
    let places = args.places()?;
    let peers: Vec<Peer> =
        Peer::all(&args.also)?.into_iter().filter(|peer| args.wants_peer(peer)).collect();
    let folder = tempfile::Builder::new().prefix("scrapegate-peers-").tempdir()?;
    let credentials = Credentials::generate(folder.path())?;
    let answers = Answers::prepare();

    println!("{}", report::heading(&peers));
    let mut measured = Vec::new();
    for (setting, place) in places {
        eprintln!("under {setting}");
        let exporter =
            place.on_host(|| Exporter::start(&answers, place.address(), &credentials))?;
        let stage =
            Stage { peers: &peers, place: &place, exporter: &exporter, credentials: &credentials };
        let figures = place.on_scrapers_side(|| measure(&args, &setting, &stage))?;
        print!("{}", report::tables(&peers, &setting, &figures));
        let verdicts = bars::judge(&figures, &setting.congestion_control);
        print!("{}", report::verdicts(&verdicts));
        let series = if setting.is_first {
            let wanted = |name: &str| args.wants_workload(name);
            place.on_scrapers_side(|| growth::measure(&stage, wanted))?
        } else {
            Vec::new()
        };
        for series in &series {
            print!("{}", series.table());
        }
        measured.push(Measured { setting, figures, series, verdicts });
    }
    if let Some(path) = &args.json {
        std::fs::write(path, report::json(&peers, &measured))?;
        eprintln!("figures written to {}", path.display());
    }
    let verdicts = measured.iter().flat_map(|measured| &measured.verdicts);
    let missed = verdicts.filter(|verdict| !verdict.met()).count();
    if args.strict && missed > 0 {
        return Err(format!("{missed} targets missed").into());
    }
    Ok(())
}

fn measure(args: &Args, setting: &Setting, stage: &Stage<'_>) -> Result<Figures> {
    let wanted = |name: &str| args.wants_workload(name);
    let runs = |workload: &Workload| {
        let is_needed = setting.is_first || workload.on_each_link || !args.workloads.is_empty();
        is_needed && wanted(workload.name)
    };
    let mut figures = rounds::run(stage, args.rounds, runs)?;
    if setting.is_first && wanted("memory") {
        memory::measure(stage, &mut figures)?;
    }
    if setting.is_first && wanted("start") {
        memory::time_starts(stage, &mut figures)?;
    }
    Ok(figures)
}

impl Args {
    /// All settings. Without the privilege to make network namespaces, only the present one.
    fn places(&self) -> Result<Vec<(Setting, Place)>> {
        let present = network::congestion_control();
        if let Err(error) = network::isolate() {
            let only =
                Setting { congestion_control: present, link: Link::Loopback, is_first: true };
            eprintln!("CANNOT make network namespaces ({error}): measuring only under {only}");
            return Ok(vec![(only, Place::here())]);
        }
        let congestion_controls = match self.congestion_control.as_slice() {
            [] => vec![present],
            [all] if all == "all" => network::allowed_congestion_controls(),
            names => names.to_vec(),
        };
        let mut places = Vec::new();
        for congestion_control in congestion_controls {
            for (at, link) in self.link.iter().enumerate() {
                let link = match link {
                    LinkName::Loopback => Link::Loopback,
                    LinkName::Veth => Link::Veth,
                };
                let place = Place::new(link, &congestion_control)?;
                let congestion_control = congestion_control.clone();
                places.push((Setting { congestion_control, link, is_first: at == 0 }, place));
            }
        }
        Ok(places)
    }

    fn wants_peer(&self, peer: &Peer) -> bool {
        let names = [peer.name(), peer.column()];
        self.peers.is_empty() || self.peers.iter().any(|wanted| names.contains(&wanted.as_str()))
    }

    fn wants_workload(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| wanted == name)
    }
}
