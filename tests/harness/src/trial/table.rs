//! A table of figures, with one column for each trial and the bounds that the figures must keep.

use std::{fmt, time::Duration};

/// All figures of a run.
#[derive(Debug)]
pub struct Table {
    /// Each trial's name and lines. All trials have the same lines.
    trials: Vec<(&'static str, Vec<Line>)>,
}

/// A figure, with its bound if it has one.
#[derive(Debug)]
pub struct Line {
    /// What is measured.
    pub what: String,
    /// The result, with its unit.
    pub figure: String,
    /// The bound as text, and whether the figure keeps it.
    bound: Option<(String, bool)>,
}

impl Line {
    /// A figure that has no bound.
    pub fn tell(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self { what: what.into(), figure: figure.into(), bound: None }
    }

    /// A figure, its bound as text, and whether the figure keeps the bound.
    pub fn bound(
        what: impl Into<String>,
        figure: impl Into<String>,
        bound: impl Into<String>,
        is_kept: bool,
    ) -> Self {
        Self { bound: Some((bound.into(), is_kept)), ..Self::tell(what, figure) }
    }
}

impl Table {
    /// A table with one column for each trial.
    pub fn new(trials: impl IntoIterator<Item = (&'static str, Vec<Line>)>) -> Self {
        Self { trials: trials.into_iter().collect() }
    }

    /// Whether all figures keep their bounds.
    pub fn is_kept(&self) -> bool {
        let lines = self.trials.iter().flat_map(|(_, lines)| lines);
        lines.filter_map(|line| line.bound.as_ref()).all(|(_, is_kept)| *is_kept)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.trials.iter().map(|(name, _)| *name).collect();
        writeln!(f, "| | {} | bound | |", names.join(" | "))?;
        writeln!(f, "|---|{}---|---|", "---|".repeat(names.len()))?;
        let rows = self.trials.first().map_or(0, |(_, lines)| lines.len());
        for row in 0..rows {
            let lines: Vec<_> = self.trials.iter().map(|(_, lines)| &lines[row]).collect();
            let bounds: Vec<_> = lines.iter().filter_map(|line| line.bound.as_ref()).collect();
            let bound = bounds.first().map_or("", |(bound, _)| bound);
            let verdict = match bounds.iter().map(|(_, is_kept)| *is_kept).reduce(|a, b| a && b) {
                Some(true) => "kept",
                Some(false) => "**MISSED**",
                None => "",
            };
            let figures: Vec<_> = lines.iter().map(|line| line.figure.as_str()).collect();
            let (what, figures) = (&lines[0].what, figures.join(" | "));
            writeln!(f, "| {what} | {figures} | {bound} | {verdict} |")?;
        }
        Ok(())
    }
}

/// The quantile of a sorted list. [`Duration::MAX`] for an empty list.
pub fn quantile(sorted: &[Duration], at: f64) -> Duration {
    let place = (sorted.len() as f64 * at).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
}

/// Formats a time as milliseconds.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Formats KiB as MiB.
pub fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
