//! The figures as Markdown tables and as JSON.

use std::fmt::Write as _;

use scrapegate_harness::side_by_side::{machine, numbers::significant};
use serde_json::{Map, Value, json};

use crate::{
    bars::Verdict,
    column::Column,
    figures::{Figure, Figures},
};

/// The machine and the compared programs.
pub(crate) fn heading(columns: &[Column], setting: &str) -> String {
    let mut text = format!("- machine: {}\n- link: {setting}\n", machine::description());
    for column in columns {
        let _ = writeln!(text, "- {}: {}", column.name, column.version);
    }
    text
}

/// One table, with a column for each of these names.
pub(crate) fn table(group: &str, columns: &[&str], figures: &Figures) -> String {
    let mut lines = String::new();
    for figure in Figure::ALL {
        let cells: Vec<_> =
            columns.iter().map(|column| figures.median(group, column, figure)).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<_> = cells
                .into_iter()
                .map(|cell| cell.map_or_else(|| "-".to_owned(), significant))
                .collect();
            let _ = writeln!(lines, "| {} | {} |", figure.title(), cells.join(" | "));
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let header = columns.join(" | ");
    format!("\n| {group} | {header} |\n|---|{}\n{lines}", "---|".repeat(columns.len()))
}

/// The table of bars, met and missed.
pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let mut text = String::from("\n| bar | against | at most | is | |\n|---|---|---|---|---|\n");
    for verdict in verdicts {
        let word = if verdict.met() { "met" } else { "MISSED" };
        let Verdict { title, against, limit, value } = verdict;
        let value = significant(*value);
        let _ = writeln!(text, "| {title} | {against} | {limit} | {value} | {word} |");
    }
    text
}

/// All values of every round, and the verdicts, as JSON.
pub(crate) fn json(
    columns: &[Column],
    setting: &str,
    figures: &Figures,
    verdicts: &[Verdict],
) -> String {
    let versions: Map<String, Value> =
        columns.iter().map(|column| (column.name.clone(), column.version.clone().into())).collect();
    let figures: Vec<_> = figures
        .all()
        .map(|(group, column, figure, values)| {
            json!({"group": group, "column": column, "figure": figure.key(), "rounds": values})
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
    let report = json!({
        "machine": machine::description(), "link": setting, "columns": versions,
        "figures": figures, "bars": verdicts,
    });
    format!("{report:#}\n")
}
