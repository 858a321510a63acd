//! What was measured, as it is saved and printed: one JSON document, with a version.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::scrape::Timing;
use crate::{
    exposition::Acceptance,
    file,
    pki::{self, Access, Existing},
};

/// Of the document. Raised when an old reader would misunderstand a new one.
const VERSION: u32 = 1;

/// Largest file that is read back, in bytes: twice what the largest saved one can have.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// One run of `probe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// [`VERSION`].
    pub(super) version: u32,
    /// By which version of scrapegate.
    pub(super) scrapegate: String,
    /// When, in RFC 3339.
    pub(super) taken: String,
    pub(super) exporter: String,
    pub(super) target: String,
    pub(super) enabled: bool,
    pub(super) interval_seconds: f64,
    pub(super) timeout_seconds: f64,
    pub(super) direct: Runs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) through_proxy: Option<Runs>,
    pub(super) answer: Anatomy,
}

impl Measurement {
    pub(super) const VERSION: u32 = VERSION;

    /// In pairs, as they were taken: how much longer it took through the proxy, in seconds.
    pub(super) fn overheads(&self) -> Option<Vec<f64>> {
        let proxied = self.through_proxy.as_ref()?;
        let pairs = proxied.total_seconds.iter().zip(&self.direct.total_seconds);
        Some(pairs.map(|(proxied, direct)| proxied - direct).collect())
    }
}

/// The times of the scrapes of one kind, in the order in which they were taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Runs {
    pub(super) first_byte_seconds: Vec<f64>,
    pub(super) total_seconds: Vec<f64>,
}

impl Runs {
    pub(super) fn add(&mut self, timing: Timing) {
        self.first_byte_seconds.push(timing.first_byte.as_secs_f64());
        self.total_seconds.push(timing.total.as_secs_f64());
    }
}

/// What the answer was made of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Anatomy {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) openmetrics: bool,
    /// How the body said that it was over.
    pub(super) end: String,
    /// As it came.
    pub(super) wire_bytes: u64,
    /// As text; absent in a coding that we do not know.
    pub(super) bytes: Option<u64>,
    /// As gzip, by the exporter or by us.
    pub(super) gzip_bytes: Option<u64>,
    /// How many of `wire_bytes` were looked at, where that are not all.
    pub(super) looked_at: Option<u64>,
    pub(super) lines: u64,
    pub(super) samples: u64,
    /// Of those that are told apart.
    pub(super) family_count: u64,
    /// Samples of families that are not told apart.
    pub(super) beyond_series: Option<u64>,
    pub(super) longest_line: Option<Longest>,
    /// Lines too long to be looked at.
    pub(super) cut_lines: u64,
    /// What Prometheus makes of it.
    #[serde(default)]
    pub(super) acceptance: Acceptance,
    /// Problems for Prometheus.
    pub(super) problem_count: u64,
    /// The first of them.
    pub(super) problems: Vec<Problem>,
    /// The one that decides what Prometheus makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decisive: Option<Problem>,
    /// Where `promtool check metrics` stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) promtool: Option<Problem>,
    pub(super) families: Vec<Family>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Longest {
    pub(super) line: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Problem {
    pub(super) line: u64,
    pub(super) problem: String,
    pub(super) excerpt: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Family {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) series: u64,
    pub(super) bytes: u64,
}

/// By what the largest families are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Largest {
    Bytes,
    Series,
}

impl Anatomy {
    /// The `top` largest families; of equal ones the first.
    pub(super) fn largest(&self, by: Largest, top: usize) -> Vec<&Family> {
        let mut families: Vec<_> = self.families.iter().collect();
        families.sort_by_key(|family| {
            std::cmp::Reverse(match by {
                Largest::Bytes => family.bytes,
                Largest::Series => family.series,
            })
        });
        families.truncate(top);
        families
    }
}

/// Why a saved measurement cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    File(#[from] file::ReadError),
    #[error("not a measurement that `probe --save` wrote")]
    Malformed(#[source] serde_json::Error),
    #[error("a measurement of version {0}; this is for version {VERSION}")]
    Version(u64),
    #[error("a measurement without scrapes")]
    Empty,
}

/// Writes `measurement` to `path`: all of it, or nothing.
pub(super) fn save(measurement: &Measurement, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(measurement)?;
    text.push(b'\n');
    pki::write(path, &text, Access::Public, Existing::Replace)
}

/// Reads what [`save`] wrote.
pub(super) fn load(path: &Path) -> Result<Measurement, LoadError> {
    let text = file::read(path, MAX_FILE)?;
    // The version first: another one may have other members.
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(LoadError::Malformed)?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version != u64::from(VERSION) => return Err(LoadError::Version(version)),
        Some(_) | None => {}
    }
    let measurement: Measurement = serde_json::from_value(value).map_err(LoadError::Malformed)?;
    let all = [Some(&measurement.direct), measurement.through_proxy.as_ref()];
    let is_empty =
        |runs: &Runs| runs.total_seconds.is_empty() || runs.first_byte_seconds.is_empty();
    if all.into_iter().flatten().any(is_empty) {
        return Err(LoadError::Empty);
    }
    Ok(measurement)
}
