//! The committed baselines, and the comparison of new counts with them.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// The counts of this run, in order.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<(String, f64)>);

impl Counts {
    /// Adds a count, named by what is counted (`of`) and its unit (`per`).
    pub(crate) fn add(&mut self, of: &str, per: &str, value: f64) {
        self.0.push((format!("{of} {per}"), rounded(value)));
    }
}

/// Rounds to whole numbers from 100 on, and to two decimals below.
fn rounded(value: f64) -> f64 {
    if value >= 100.0 { value.round() } else { (value * 100.0).round() / 100.0 }
}

/// Tolerance in percent for a count without a baseline, by the beginning of its name.
const TOLERANCES: [(&str, f64); 3] = [
    // Hash maps start with random keys. Everything else is reproducible to the last instruction.
    ("instructions", 2.0),
    ("bytes allocated", 2.0),
    // How many bytes a socket accepts and returns in one call depends on the kernel and on timing.
    ("system calls", 60.0),
];
const USUAL_TOLERANCE: f64 = 1.0;

/// The contents of `gates.json`.
#[derive(Debug)]
pub(crate) struct Baselines {
    counts: Map<String, Value>,
    /// The versions of the compiler and of valgrind that produced the baselines.
    pub(crate) counted_with: String,
}

/// The result of comparing a count with its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsBefore,
    Worse,
    /// Better by more than the tolerance, so the baseline can be tightened.
    Better,
    NoBaseline,
}

/// A count and its baseline.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) now: f64,
    pub(crate) before: Option<f64>,
    pub(crate) tolerance: f64,
    pub(crate) verdict: Verdict,
}

impl Baselines {
    /// Reads the file. If it does not exist, there are no baselines.
    ///
    /// # Panics
    ///
    /// If the file does not have the format of [`Baselines::write`].
    pub(crate) fn read(path: &Path) -> Self {
        let Ok(text) = fs::read_to_string(path) else {
            return Self { counts: Map::new(), counted_with: String::new() };
        };
        let mut file: Value = serde_json::from_str(&text).expect("gates.json is JSON");
        let Value::Object(counts) = file["counts"].take() else {
            panic!("gates.json has no counts");
        };
        let counted_with = file["counted with"].as_str().unwrap_or_default().to_owned();
        Self { counts, counted_with }
    }

    pub(crate) fn write(&self, path: &Path) {
        let file = json!({ "counted with": self.counted_with, "counts": self.counts });
        let text = serde_json::to_string_pretty(&file).expect("valid JSON");
        fs::write(path, text + "\n").expect("gates.json is written");
    }

    /// Compares each count with its baseline.
    pub(crate) fn judge(&self, counts: &Counts) -> Vec<Row> {
        counts.0.iter().map(|(name, now)| self.row(name, *now)).collect()
    }

    fn row(&self, name: &str, now: f64) -> Row {
        let entry = self.counts.get(name);
        let number = |key| entry.and_then(|entry| entry[key].as_f64());
        let tolerance = number("tolerance in percent").unwrap_or_else(|| tolerance_of(name));
        let before = number("value");
        let verdict = match before {
            None => Verdict::NoBaseline,
            Some(before) => judged(before, now, tolerance),
        };
        Row { name: name.to_owned(), now, before, tolerance, verdict }
    }

    /// Baselines without a count, among those whose names begin with one of `made`.
    pub(crate) fn left_over<'a>(&'a self, counts: &Counts, made: &[&str]) -> Vec<&'a str> {
        let is_counted = |name: &str| counts.0.iter().any(|(counted, _)| counted == name);
        self.counts
            .keys()
            .map(String::as_str)
            .filter(|name| made.iter().any(|of| name.starts_with(of)) && !is_counted(name))
            .collect()
    }

    /// Updates the baselines of counts outside their tolerance, and adds missing ones. Other
    /// baselines stay, so that many small steps cannot add up unnoticed.
    pub(crate) fn bless(&mut self, rows: &[Row], left_over: &[String]) {
        for row in rows.iter().filter(|row| row.verdict != Verdict::AsBefore) {
            let entry = json!({ "value": row.now, "tolerance in percent": row.tolerance });
            self.counts.insert(row.name.clone(), entry);
        }
        for name in left_over {
            self.counts.remove(name);
        }
    }
}

fn tolerance_of(name: &str) -> f64 {
    TOLERANCES
        .iter()
        .find(|(beginning, _)| name.starts_with(beginning))
        .map_or(USUAL_TOLERANCE, |(_, tolerance)| *tolerance)
}

fn judged(before: f64, now: f64, tolerance: f64) -> Verdict {
    /// The largest error from rounding.
    const ROUNDING: f64 = 0.011;
    let most = before * (1.0 + tolerance / 100.0) + ROUNDING;
    let least = before * (1.0 - tolerance / 100.0) - ROUNDING;
    if now > most {
        Verdict::Worse
    } else if now < least {
        Verdict::Better
    } else {
        Verdict::AsBefore
    }
}
