//! Runs the same scrapes through each peer in turn.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use scrapegate_harness::side_by_side::{
    machine::BusyTime,
    programs::Running,
    scraper::{Scraped, Scraper},
};

use crate::{
    Result, Stage,
    exporter::Exporter,
    figures::{Figures, Round},
    peer::Peer,
    workload::{WORKLOADS, Workload, source},
};

/// The column for direct scrapes of the exporter, in plain HTTP.
pub(crate) const DIRECT: &str = "direct";

/// Runs all selected workloads: round by round, and in each round one peer after another, so that
/// other work on the machine affects all peers alike. The first round is a short warm-up and is not
/// counted.
pub(crate) fn run(
    stage: &Stage<'_>,
    rounds: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Figures> {
    let tls = stage.credentials.scraper()?;
    let mut running = Vec::new();
    for peer in stage.peers {
        running.push((peer, stage.start(peer)?));
    }
    let mut figures = Figures::default();
    for workload in WORKLOADS.iter().filter(|workload| wanted(workload.name)) {
        eprintln!("{}: {} rounds", workload.title, rounds);
        let mut failed = Vec::new();
        for round in 0..=rounds {
            let workload = &if round == 0 { workload.warm_up() } else { *workload };
            // Each round begins with a different peer.
            let first = round % running.len().max(1);
            for (peer, running) in running[first..].iter().chain(&running[..first]) {
                if !peer.takes_part_in(workload) || failed.contains(&peer.name()) {
                    continue;
                }
                match through(peer, running, workload, &tls) {
                    Ok(measured) if round > 0 => {
                        figures.add_round(workload.name, peer.name(), &measured);
                    }
                    Ok(_) => {}
                    Err(error) if peer.is_ours() => {
                        return Err(format!("{}: {}: {error}", peer.name(), workload.name).into());
                    }
                    Err(error) => {
                        eprintln!(
                            "FAILED: {} is not compared in this workload: {error}",
                            peer.name()
                        );
                        failed.push(peer.name());
                    }
                }
            }
            let measured = directly(stage.exporter, workload)?;
            if round > 0 {
                figures.add_round(workload.name, DIRECT, &measured);
            }
        }
    }
    let floors: Vec<_> =
        stage.peers.iter().filter(|peer| peer.floor_read_size().is_some()).collect();
    figures.choose_floors(&floors);
    Ok(figures)
}

fn through(
    peer: &Peer,
    running: &Running,
    workload: &Workload,
    tls: &Arc<ClientConfig>,
) -> Result<Round> {
    let path = peer.path(source(workload.source));
    let before = running.processes.cpu_time()?;
    let (begun, machine) = (Instant::now(), BusyTime::start()?);
    let scrapes = scrape_all(running.address, Some(tls), &path, workload)?;
    let (wall, busy) = (begun.elapsed(), machine.elapsed()?);
    let cpu = running.processes.cpu_time()? - before;
    Ok(Round { cpu, busy, wall, scrapes })
}

fn directly(exporter: &Exporter, workload: &Workload) -> Result<Round> {
    let source = source(workload.source);
    let (begun, machine) = (Instant::now(), BusyTime::start()?);
    // Plain HTTP, even if the proxies connect with https.
    let scrapes = scrape_all(exporter.http, None, &format!("/{}", source.name), workload)?;
    let (wall, busy) = (begun.elapsed(), machine.elapsed()?);
    Ok(Round { cpu: Duration::ZERO, busy, wall, scrapes })
}

fn scrape_all(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    path: &str,
    workload: &Workload,
) -> Result<Vec<Scraped>> {
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
        let mut all = Vec::with_capacity(workload.scrapes);
        for connection in connections {
            all.extend(connection.join().map_err(|_| "a scraper panicked")??);
        }
        Ok(all)
    })
}
