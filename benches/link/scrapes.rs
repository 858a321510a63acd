//! Scrapes of the large body through one program.

use std::{
    io::Read,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flate2::read::MultiGzDecoder;
use rustls::ClientConfig;
use scrapegate_harness::side_by_side::{
    Result,
    credentials::Credentials,
    network::Place,
    numbers::milliseconds,
    scraper::{Download, Scraper},
};

use crate::{
    column::Column,
    exporter::{Exporter, LARGE, SMALL},
    figures::{Figure, Figures},
};

const MIB: f64 = 1024.0 * 1024.0;

/// What all scrapes have in common.
pub(crate) struct Stage<'a> {
    pub(crate) place: &'a Place,
    pub(crate) exporter: &'a Exporter,
    pub(crate) credentials: &'a Credentials,
    /// The large body.
    pub(crate) body: &'a str,
}

/// Scrapes the large body with a number of scrapers at once, through a fresh process.
pub(crate) fn measure(
    stage: &Stage<'_>,
    column: &Column,
    scrapers: usize,
    figures: &mut Figures,
) -> Result<()> {
    let tls = stage.credentials.scraper()?;
    let running = column.start(stage.place, stage.exporter, stage.credentials)?;
    let path = column.program.path(LARGE);
    let mut connected = Vec::new();
    for _ in 0..scrapers {
        connected.push(Scraper::connect(running.address, Some(&tls))?);
    }
    // What every program needs for its first scrape, without compression.
    warm_up(&running.address, column, &tls)?;

    let memory = running.processes.memory()?;
    running.processes.forget_peak_memory()?;
    stage.exporter.take_busy();
    let (cpu, wire) = (running.processes.cpu_time()?, stage.place.sent_by_host()?);
    let begun = Instant::now();
    let downloads = download_all(connected, &path, column.encoding().0)?;
    let seconds = begun.elapsed().as_secs_f64();
    let wire = stage.place.sent_by_host()? - wire;
    let cpu = running.processes.cpu_time()? - cpu;
    let peak = running.processes.peak_memory()?;
    let busy = stage.exporter.take_busy().into_iter().max().unwrap_or_default();
    let first_byte =
        downloads.iter().map(|download| download.scraped.first_byte).max().unwrap_or_default();
    for download in downloads {
        check(&download, column.encoding().1, stage.body)?;
    }

    let per_scrape = peak.saturating_sub(memory) as f64 / scrapers as f64 / MIB;
    for (figure, value) in [
        (Figure::Seconds, seconds),
        (Figure::Wire, wire as f64 / 1e6),
        (Figure::Cpu, cpu.as_secs_f64()),
        (Figure::FirstByte, milliseconds(first_byte)),
        (Figure::ExporterBusy, busy.as_secs_f64()),
        (Figure::PeakMemory, peak as f64 / MIB),
        (Figure::MemoryPerScrape, per_scrape),
    ] {
        figures.add(&group(scrapers), &column.name, figure, value);
    }
    Ok(())
}

/// The name of the scrapes with this number of scrapers.
pub(crate) fn group(scrapers: usize) -> String {
    if scrapers == 1 { "1 scraper".to_owned() } else { format!("{scrapers} scrapers") }
}

/// The CPU time of this number of scrapes, one after another.
pub(crate) fn cpu_time(stage: &Stage<'_>, column: &Column, scrapes: usize) -> Result<Duration> {
    let tls = stage.credentials.scraper()?;
    let running = column.start(stage.place, stage.exporter, stage.credentials)?;
    let mut scraper = Scraper::connect(running.address, Some(&tls))?;
    let path = column.program.path(LARGE);
    scraper.scrape(&path)?;
    let before = running.processes.cpu_time()?;
    for _ in 0..scrapes {
        scraper.scrape(&path)?;
    }
    Ok(running.processes.cpu_time()? - before)
}

fn warm_up(address: &std::net::SocketAddr, column: &Column, tls: &Arc<ClientConfig>) -> Result<()> {
    let mut scraper = Scraper::connect(*address, Some(tls))?;
    scraper.download(&column.program.path(SMALL), "identity")?;
    Ok(())
}

fn download_all(
    scrapers: Vec<Scraper>,
    path: &str,
    accept_encoding: &str,
) -> Result<Vec<Download>> {
    thread::scope(|scope| {
        let all: Vec<_> = scrapers
            .into_iter()
            .map(|mut scraper| scope.spawn(move || scraper.download(path, accept_encoding)))
            .collect();
        all.into_iter().map(|one| one.join().map_err(|_| "a scraper panicked")?).collect()
    })
}

/// The decoded body must be the exporter's.
fn check(download: &Download, encoding: &str, body: &str) -> Result<()> {
    if download.encoding != encoding {
        return Err(format!("Content-Encoding {:?}, not {encoding:?}", download.encoding).into());
    }
    let mut decoded = Vec::with_capacity(body.len());
    match encoding {
        "gzip" => MultiGzDecoder::new(&download.body[..]).read_to_end(&mut decoded).map(drop)?,
        "zstd" => decoded = zstd::decode_all(&download.body[..])?,
        _ => decoded.extend_from_slice(&download.body),
    }
    if decoded != body.as_bytes() {
        return Err(format!("{} decoded bytes are not the body", decoded.len()).into());
    }
    Ok(())
}
