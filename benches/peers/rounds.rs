//! Runs the same scrapes through each peer in turn.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use scrapegate_harness::{
    EndOnDrop,
    side_by_side::{
        machine::BusyTime,
        programs::Running,
        scraper::{Scraped, Scraper},
    },
};

use crate::{
    Result, Stage,
    exporter::Exporter,
    figures::{Figures, Round},
    peer::Peer,
    workload::{Beside, Key, WORKLOADS, Workload, source},
};

/// The column for direct scrapes of the exporter, in plain HTTP.
pub(crate) const DIRECT: &str = "direct";

/// Runs all selected workloads, with a set of processes for each kind of key.
pub(crate) fn run(
    stage: &Stage<'_>,
    rounds: usize,
    wanted: impl Fn(&Workload) -> bool,
) -> Result<Figures> {
    let mut figures = Figures::default();
    for key in [Key::EcdsaP256, Key::Rsa4096] {
        let of_key = |workload: &&Workload| workload.key == key && wanted(workload);
        let workloads: Vec<_> = WORKLOADS.iter().filter(of_key).collect();
        if workloads.is_empty() {
            continue;
        }
        let rsa;
        let credentials = match key {
            Key::EcdsaP256 => stage.credentials,
            Key::Rsa4096 => {
                rsa = stage.credentials.with_rsa_4096()?;
                &rsa
            }
        };
        let tls = credentials.scraper()?;
        let mut running = Vec::new();
        for peer in stage.peers {
            running.push((peer, stage.start_with(peer, credentials)?));
        }
        for workload in workloads {
            eprintln!("{}: {rounds} rounds", workload.title);
            let takes_part = |(peer, _): &&(&Peer, Running)| peer.takes_part_in(workload);
            let taking_part: Vec<_> = running.iter().filter(takes_part).collect();
            match workload.beside {
                // The idle connections of all peers together would be too many.
                Beside::Idle(_) => {
                    for one in taking_part {
                        run_workload(stage, workload, &[one], &tls, rounds, &mut figures)?;
                    }
                }
                Beside::Nothing | Beside::Handshakes => {
                    run_workload(stage, workload, &taking_part, &tls, rounds, &mut figures)?;
                }
            }
        }
    }
    let floors: Vec<_> =
        stage.peers.iter().filter(|peer| peer.floor_read_size().is_some()).collect();
    figures.choose_floors(&floors);
    Ok(figures)
}

/// Round by round, and in each round one peer after another, so that other work on the machine
/// affects all peers alike. The first round is a short warm-up and is not counted.
fn run_workload(
    stage: &Stage<'_>,
    workload: &Workload,
    running: &[&(&Peer, Running)],
    tls: &Arc<ClientConfig>,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut failed = Vec::new();
    let mut idle = Vec::new();
    for (peer, running) in running {
        match idle_connections(peer, running, workload, tls) {
            Ok(connections) => idle.push(connections),
            Err(error) => failed.push(without(peer, workload, &*error)?),
        }
    }
    for round in 0..=rounds {
        let now = &if round == 0 { workload.warm_up() } else { *workload };
        // Each round begins with a different peer.
        let first = round % running.len().max(1);
        for (peer, running) in running[first..].iter().chain(&running[..first]) {
            if failed.contains(&peer.name()) {
                continue;
            }
            match through(peer, running, now, tls) {
                Ok(measured) if round > 0 => {
                    figures.add_round(workload.name, peer.name(), &measured);
                }
                Ok(_) => {}
                Err(error) => failed.push(without(peer, workload, &*error)?),
            }
        }
        if workload.beside == Beside::Nothing && workload.key == Key::EcdsaP256 {
            let measured = directly(stage.exporter, now)?;
            if round > 0 {
                figures.add_round(workload.name, DIRECT, &measured);
            }
        }
    }
    Ok(())
}

/// The name of a peer that failed. An error of scrapegate is an error of the bench.
fn without<'a>(
    peer: &'a Peer,
    workload: &Workload,
    error: &(dyn Error + Send + Sync),
) -> Result<&'a str> {
    if peer.is_ours() {
        return Err(format!("{}: {}: {error}", peer.name(), workload.name).into());
    }
    eprintln!("FAILED: {} is not compared in this workload: {error}", peer.name());
    Ok(peer.name())
}

/// Connections that have had one scrape and stay open.
fn idle_connections(
    peer: &Peer,
    running: &Running,
    workload: &Workload,
    tls: &Arc<ClientConfig>,
) -> Result<Vec<Scraper>> {
    let Beside::Idle(count) = workload.beside else {
        return Ok(Vec::new());
    };
    let path = peer.path(source("size-1k"));
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut scraper = Scraper::connect(running.address, Some(tls))?;
        scraper.scrape(&path)?;
        idle.push(scraper);
    }
    Ok(idle)
}

fn through(
    peer: &Peer,
    running: &Running,
    workload: &Workload,
    tls: &Arc<ClientConfig>,
) -> Result<Round> {
    let path = peer.path(source(workload.source));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = EndOnDrop(&ended);
        if workload.beside == Beside::Handshakes {
            // If the proxy refuses one, the others still are its work.
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    drop(Scraper::connect(running.address, Some(tls)));
                }
            });
        }
        running.processes.forget_peak_memory()?;
        let before = running.processes.cpu_time()?;
        let (begun, machine) = (Instant::now(), BusyTime::start()?);
        let connections = scrape_all(running.address, Some(tls), &path, workload)?;
        let (wall, busy) = (begun.elapsed(), machine.elapsed()?);
        let cpu = running.processes.cpu_time()? - before;
        let peak = Some(running.processes.peak_memory()?);
        Ok(Round { cpu, busy, wall, peak, connections })
    })
}

fn directly(exporter: &Exporter, workload: &Workload) -> Result<Round> {
    let source = source(workload.source);
    let (begun, machine) = (Instant::now(), BusyTime::start()?);
    // Plain HTTP, even if the proxies connect with https.
    let connections = scrape_all(exporter.http, None, &format!("/{}", source.name), workload)?;
    let (wall, busy) = (begun.elapsed(), machine.elapsed()?);
    Ok(Round { cpu: Duration::ZERO, busy, wall, peak: None, connections })
}

fn scrape_all(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    path: &str,
    workload: &Workload,
) -> Result<Vec<Vec<Scraped>>> {
    let each = workload.scrapes / workload.connections;
    let expected = source(workload.source).length;
    thread::scope(|scope| {
        let connections: Vec<_> = (0..workload.connections)
            .map(|_| {
                scope.spawn(move || -> Result<Vec<Scraped>> {
                    let mut scraper = Scraper::connect(address, tls)?;
                    let mut scrapes = Vec::with_capacity(each);
                    for index in 0..each {
                        if workload.reconnect && index > 0 {
                            scraper = Scraper::connect(address, tls)?;
                        }
                        let scraped = scraper.scrape(path)?;
                        if scraped.bytes != expected {
                            return Err(format!("{} of {expected} bytes", scraped.bytes).into());
                        }
                        scrapes.push(scraped);
                    }
                    Ok(scrapes)
                })
            })
            .collect();
        connections
            .into_iter()
            .map(|connection| connection.join().map_err(|_| "a scraper panicked")?)
            .collect()
    })
}
