//! The committed counts, and what they say about new ones.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// Counts that were made in this run, in their order.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<(String, f64)>);

impl Counts {
    /// Adds a count: of what, and per what.
    pub(crate) fn add(&mut self, of: &str, per: &str, value: f64) {
        self.0.push((format!("{of} {per}"), rounded(value)));
    }
}

/// Whole numbers from 100 on, two decimals below.
fn rounded(value: f64) -> f64 {
    if value >= 100.0 { value.round() } else { (value * 100.0).round() / 100.0 }
}

/// Tolerance of a count that gets its first baseline, in percent, by how its name begins.
const TOLERANCES: [(&str, f64); 3] = [
    // Hash maps start with random keys; the rest repeats itself to the last instruction.
    ("instructions", 2.0),
    ("bytes allocated", 2.0),
    // How much a socket takes and gives depends on the kernel and on timing.
    ("system calls", 60.0),
];
const USUAL_TOLERANCE: f64 = 1.0;

/// `gates.json`.
#[derive(Debug)]
pub(crate) struct Baselines {
    counts: Map<String, Value>,
    /// With which compiler and valgrind they were counted.
    pub(crate) counted_with: String,
}

/// What a count is next to its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsBefore,
    Worse,
    /// By more than the tolerance: the baseline can be tightened.
    Better,
    NoBaseline,
}

/// A count next to its baseline.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) now: f64,
    pub(crate) before: Option<f64>,
    pub(crate) tolerance: f64,
    pub(crate) verdict: Verdict,
}

impl Baselines {
    /// Reads the file; without one there are no baselines.
    ///
    /// # Panics
    /// When the file is not as [`Baselines::write`] writes it.
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
        let text = serde_json::to_string_pretty(&file).expect("it can be written");
        fs::write(path, text + "\n").expect("gates.json is written");
    }

    /// Each count next to its baseline.
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

    /// Baselines that nothing was counted for, of those that begin with one of `made`.
    pub(crate) fn left_over<'a>(&'a self, counts: &Counts, made: &[&str]) -> Vec<&'a str> {
        let is_counted = |name: &str| counts.0.iter().any(|(counted, _)| counted == name);
        self.counts
            .keys()
            .map(String::as_str)
            .filter(|name| made.iter().any(|of| name.starts_with(of)) && !is_counted(name))
            .collect()
    }

    /// Moves the baselines of counts that left their tolerance, and adds those that are missing.
    /// Others stay, so that many small steps cannot add up unseen.
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
    /// What rounding may have added.
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
