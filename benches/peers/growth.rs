//! How the cost of scrapegate grows: with scrapers, with exporters, and with the size of the body.

use std::{
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use scrapegate_harness::side_by_side::{
    numbers::{median, milliseconds, significant},
    programs::{Compression, Running, Site, Source, free_address},
    scraper::Scraper,
};
use serde_json::{Value, json};

use crate::{
    Result, Stage,
    peer::{Kind, Peer},
    workload,
};

/// The names of the series, as workloads.
pub(crate) const SCRAPERS: &str = "grow-scrapers";
pub(crate) const EXPORTERS: &str = "grow-exporters";
pub(crate) const SIZE: &str = "grow-size";

const MIB: f64 = 1024.0 * 1024.0;

/// One small table: a row for each count, and the slope from the first to the last row.
pub(crate) struct Series {
    pub(crate) peer: String,
    name: &'static str,
    /// What is counted.
    count: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(f64, Vec<f64>)>,
}

impl Series {
    fn new(
        peer: &Peer,
        name: &'static str,
        count: &'static str,
        columns: &'static [&'static str],
    ) -> Self {
        Self { peer: peer.name().to_owned(), name, count, columns, rows: Vec::new() }
    }

    fn add(&mut self, count: usize, values: &[f64]) {
        self.rows.push((count as f64, values.to_vec()));
    }

    /// What one more of the count costs, by column: the difference of the last row and the first.
    fn slopes(&self) -> Vec<f64> {
        let (Some((first, of_first)), Some((last, of_last))) =
            (self.rows.first(), self.rows.last())
        else {
            return Vec::new();
        };
        let each =
            |(first_value, last_value): (&f64, &f64)| (last_value - first_value) / (last - first);
        of_first.iter().zip(of_last).map(each).collect()
    }

    /// The table as Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "\n| {} ({}) | {} |\n|---|{}\n",
            self.count,
            self.peer,
            self.columns.join(" | "),
            "---|".repeat(self.columns.len())
        );
        for (count, values) in &self.rows {
            let cells: Vec<_> = values.iter().copied().map(significant).collect();
            let _ = writeln!(text, "| {count} | {} |", cells.join(" | "));
        }
        // The cost of one byte is a very small number.
        let slope = |slope: f64| {
            if slope.abs() < 0.01 { format!("{slope:.2e}") } else { significant(slope) }
        };
        let cells: Vec<_> = self.slopes().into_iter().map(slope).collect();
        let _ = writeln!(text, "| one more | {} |", cells.join(" | "));
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "peer": self.peer, "series": self.name, "count": self.count, "columns": self.columns,
            "rows": self.rows, "slopes": self.slopes(),
        })
    }
}

/// Measures the selected series for each build of scrapegate.
pub(crate) fn measure(stage: &Stage<'_>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for peer in stage.peers.iter().filter(|peer| peer.is_ours()) {
        if wanted(SCRAPERS) {
            eprintln!("growth of {} with scrapers", peer.name());
            all.push(by_scrapers(stage, peer)?);
        }
        if wanted(EXPORTERS) {
            eprintln!("growth of {} with exporters", peer.name());
            all.push(by_exporters(stage, peer)?);
        }
        if wanted(SIZE) {
            eprintln!("growth of {} with the size of the body", peer.name());
            all.push(by_size(stage, peer)?);
        }
    }
    Ok(all)
}

/// All scrapers scrape 1 MB at once, 256 times in total.
fn by_scrapers(stage: &Stage<'_>, peer: &Peer) -> Result<Series> {
    const SCRAPES: usize = 256;
    let columns = &["CPU µs per scrape", "MB/s", "peak memory, MiB"];
    let mut series = Series::new(peer, SCRAPERS, "scrapers", columns);
    let tls = stage.credentials.scraper()?;
    let path = peer.path(workload::source("size-1m"));
    for count in [1, 4, 16, 64, 256] {
        let running = stage.start(peer)?;
        let mut scrapers = Vec::with_capacity(count);
        for _ in 0..count {
            scrapers.push(Scraper::connect(running.address, Some(&tls))?);
        }
        let before = running.processes.cpu_time()?;
        let begun = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = scrapers
                .into_iter()
                .map(|mut scraper| {
                    let path = &path;
                    scope.spawn(move || -> Result<()> {
                        for _ in 0..SCRAPES / count {
                            scraper.scrape(path)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a scraper panicked")?)
        })?;
        let wall = begun.elapsed().as_secs_f64();
        let cpu = (running.processes.cpu_time()? - before).as_secs_f64();
        series.add(
            count,
            &[
                cpu / SCRAPES as f64 * 1e6,
                SCRAPES as f64 / wall,
                running.processes.peak_memory()? as f64 / MIB,
            ],
        );
    }
    Ok(series)
}

/// The configuration has many exporters. The last one is scraped.
fn by_exporters(stage: &Stage<'_>, peer: &Peer) -> Result<Series> {
    const SCRAPES: usize = 500;
    let columns = &[
        "start, ms",
        "CPU µs per scrape of 20 kB",
        "status page, ms",
        "/metrics, ms",
        "reload, ms",
        "memory, MiB",
    ];
    let mut series = Series::new(peer, EXPORTERS, "exporters", columns);
    let tls = stage.credentials.scraper()?;
    for count in [1, 10, 100, 1000] {
        let running = with_exporters(stage, peer, count)?;
        let mut scraper = Scraper::connect(running.address, Some(&tls))?;
        let path = format!("/prometheus?exporter=small-{}", count - 1);
        scraper.scrape(&path)?;
        let before = running.processes.cpu_time()?;
        for _ in 0..SCRAPES {
            scraper.scrape(&path)?;
        }
        let cpu = running.processes.cpu_time()? - before;
        let page = time_of(|| scraper.scrape("/").map(drop))?;
        let metrics = time_of(|| scraper.scrape("/metrics").map(drop))?;
        let reload = time_of(|| scraper.post("/-/reload").map(drop))?;
        series.add(
            count,
            &[
                milliseconds(running.processes.started_in),
                cpu.as_secs_f64() / SCRAPES as f64 * 1e6,
                page,
                metrics,
                reload,
                running.processes.memory()? as f64 / MIB,
            ],
        );
    }
    Ok(series)
}

/// The median of nine, in milliseconds.
fn time_of(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        work()?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(median(&times).expect("nine times"))
}

fn with_exporters(stage: &Stage<'_>, peer: &Peer, count: usize) -> Result<Running> {
    let Kind::Program(program) = &peer.kind else {
        return Err("only scrapegate has exporters".into());
    };
    let names: Vec<_> = (0..count).map(|index| format!("small-{index}")).collect();
    let address = stage.exporter.http;
    let sources: Vec<_> = names.iter().map(|name| Source { name, address, https: false }).collect();
    let folder = stage.credentials.folder().join(format!("{}-{count}", peer.name()));
    fs::create_dir_all(&folder)?;
    stage.place.on_host(|| {
        program.start(&Site {
            address: free_address(stage.place.address())?,
            sources: &sources,
            credentials: stage.credentials.folder(),
            folder: &folder,
            compression: Compression::Unset,
            exporter_keys: "",
        })
    })
}

/// One scraper, one body after another. At least 200 MB in total, or 500 scrapes.
fn by_size(stage: &Stage<'_>, peer: &Peer) -> Result<Series> {
    let columns =
        &["CPU µs per scrape", "ms per scrape", "ms to the first byte", "peak memory, MiB"];
    let mut series = Series::new(peer, SIZE, "bytes", columns);
    let tls = stage.credentials.scraper()?;
    for name in
        ["size-1k", "size-10k", "size-100k", "size-1m", "chunked-10m", "chunked-100m", "size-1g"]
    {
        let source = workload::source(name);
        let length = usize::try_from(source.length)?;
        let scrapes = (200_000_000 / length).clamp(1, 500);
        let running = stage.start(peer)?;
        let mut scraper = Scraper::connect(running.address, Some(&tls))?;
        let path = peer.path(source);
        if scrapes > 1 {
            scraper.scrape(&path)?;
        }
        let before = running.processes.cpu_time()?;
        let (mut total, mut first_byte) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..scrapes {
            let scraped = scraper.scrape(&path)?;
            total += scraped.total;
            first_byte += scraped.first_byte;
        }
        let cpu = running.processes.cpu_time()? - before;
        let each = |time: Duration| time.as_secs_f64() / scrapes as f64;
        series.add(
            length,
            &[
                each(cpu) * 1e6,
                each(total) * 1e3,
                each(first_byte) * 1e3,
                running.processes.peak_memory()? as f64 / MIB,
            ],
        );
    }
    Ok(series)
}
