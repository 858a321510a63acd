//! The figures as Markdown tables and as JSON.

use std::fmt::Write as _;

use scrapegate_harness::side_by_side::{machine, numbers::significant};
use serde_json::{Value, json};

use crate::{
    Measured, Setting,
    bars::Verdict,
    figures::{Figure, Figures},
    growth::Series,
    memory,
    peer::{FLOOR, Peer},
    rounds::DIRECT,
    workload::{Unit, WORKLOADS},
};

/// The machine and the compared programs.
pub(crate) fn heading(peers: &[Peer]) -> String {
    let mut text = format!("- machine: {}\n", machine::description());
    let mut columns: Vec<_> = peers.iter().map(|peer| (peer.column(), &peer.version)).collect();
    columns.dedup();
    for (column, version) in columns {
        let _ = writeln!(text, "- {column}: {version}");
    }
    text
}

/// All tables of one congestion control and link.
pub(crate) fn tables(peers: &[Peer], setting: &Setting, figures: &Figures) -> String {
    let mut names: Vec<&str> = peers.iter().map(Peer::column).collect();
    names.dedup();
    let with_direct: Vec<&str> = names.iter().copied().chain([DIRECT]).collect();
    let bulk: Vec<Row> = rows(Some(Unit::PerGigabyte));
    let requests: Vec<Row> = rows(Some(Unit::PerRequest));
    let all: Vec<Row> = rows(None);
    let memory = [
        (memory::IDLE, "peak after the start"),
        (memory::LARGE, "peak after a 100 MiB scrape"),
        (memory::STALLED, "peak with 256 slow readers of 200 MB"),
        (memory::EACH, "resident, for each of 1 000 slow readers"),
        (memory::KEPT, "resident, kept 5 s after they have left"),
    ];
    let start = [(memory::START, "to listening")];
    let mut text = format!("\n#### {setting}\n");
    let mut table = |title, figure, rows: &[Row], peers: &[&str]| {
        text.push_str(&one_table(title, figure, rows, peers, figures));
    };
    table("CPU seconds per GB", Figure::CpuPerGigabyte, &bulk, &names);
    table("CPU µs per scrape", Figure::CpuPerScrape, &requests, &names);
    table("Busy seconds of the whole machine per GB", Figure::BusyPerGigabyte, &bulk, &with_direct);
    table(
        "Busy µs of the whole machine per scrape",
        Figure::BusyPerScrape,
        &requests,
        &with_direct,
    );
    table("Throughput, MB/s", Figure::Throughput, &bulk, &with_direct);
    table("Median time of a scrape, ms", Figure::MedianTime, &all, &with_direct);
    table("99th percentile, ms", Figure::P99Time, &all, &with_direct);
    table("Time to first byte, ms", Figure::FirstByte, &all, &with_direct);
    table("Slowest connection by fastest", Figure::Fairness, &bulk, &with_direct);
    table("Peak memory during the scrapes, MiB", Figure::PeakMemory, &bulk, &names);
    table("Memory, MiB", Figure::PeakMemory, &memory, &names);
    table("Start, ms", Figure::Start, &start, &names);
    table("Best size of the floor's reads, KiB", Figure::ReadSize, &all, &[FLOOR]);
    text
}

type Row = (&'static str, &'static str);

fn rows(unit: Option<Unit>) -> Vec<Row> {
    WORKLOADS
        .iter()
        .filter(|workload| unit.is_none_or(|unit| workload.unit == unit))
        .map(|workload| (workload.name, workload.title))
        .collect()
}

fn one_table(
    title: &str,
    figure: Figure,
    rows: &[Row],
    peers: &[&str],
    figures: &Figures,
) -> String {
    let mut lines = String::new();
    for (workload, row) in rows {
        let cells: Vec<Option<f64>> =
            peers.iter().map(|peer| figures.median(workload, peer, figure)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells
                .into_iter()
                .map(|cell| cell.map_or_else(|| "-".to_owned(), significant))
                .collect::<Vec<_>>();
            let _ = writeln!(lines, "| {row} | {} |", cells.join(" | "));
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let header = peers.join(" | ");
    format!("\n| {title} | {header} |\n|---|{}\n{lines}", "---|".repeat(peers.len()))
}

/// The table of bars, met and missed.
pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let mut text = String::from("\n| bar | against | at most | is | |\n|---|---|---|---|---|\n");
    for verdict in verdicts {
        let word = if verdict.met() { "met" } else { "MISSED" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {word} |",
            verdict.title,
            verdict.against,
            verdict.limit,
            significant(verdict.value)
        );
    }
    text
}

/// All values of every round, and the verdicts, as JSON.
pub(crate) fn json(peers: &[Peer], measured: &[Measured]) -> String {
    let versions: serde_json::Map<String, Value> =
        peers.iter().map(|peer| (peer.name().to_owned(), peer.version.clone().into())).collect();
    let settings: Vec<_> = measured.iter().map(one_setting).collect();
    let machine = machine::description();
    format!("{:#}\n", json!({"machine": machine, "peers": versions, "settings": settings}))
}

fn one_setting(measured: &Measured) -> Value {
    let Measured { setting, figures, series, verdicts } = measured;
    let figures: Vec<_> = figures
        .all()
        .map(|(workload, peer, figure, values)| {
            json!({"workload": workload, "peer": peer, "figure": figure.key(), "rounds": values})
        })
        .collect();
    let verdicts: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "bar": verdict.title, "against": verdict.against, "at_most": verdict.limit,
                "is": verdict.value, "met": verdict.met(),
            })
        })
        .collect();
    json!({
        "congestion_control": setting.congestion_control, "link": setting.link.to_string(),
        "figures": figures, "bars": verdicts,
        "growth": series.iter().map(Series::json).collect::<Vec<_>>(),
    })
}
