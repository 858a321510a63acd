//! A measurement, in the form in which it is saved and printed: one JSON document with a version.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::scrape::Timing;
use crate::{
    common::file::{self, Existing, FileAccess},
    scrape::exposition::Acceptance,
};

/// Version of the document. To be raised if an old reader would misunderstand a new document.
const VERSION: u32 = 1;

/// Size limit for a file to read, in bytes: twice the size of the largest document that can be
/// saved.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// One run of `probe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// Version of the document, [`VERSION`].
    pub(super) version: u32,
    /// Version of the scrapegate that measured.
    pub(super) scrapegate: String,
    /// Time of the measurement, in RFC 3339 format.
    pub(super) taken: String,
    pub(super) exporter: String,
    pub(super) target: String,
    pub(super) enabled: bool,
    pub(super) interval_seconds: f64,
    pub(super) timeout_seconds: f64,
    pub(super) direct: Runs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) through_proxy: Option<Runs>,
    pub(super) answer: ResponseAnalysis,
}

impl Measurement {
    pub(super) const VERSION: u32 = VERSION;

    /// For each pair of scrapes, how much longer the one through the proxy took, in seconds.
    pub(super) fn overheads(&self) -> Option<Vec<f64>> {
        let proxied = self.through_proxy.as_ref()?;
        let pairs = proxied.total_seconds.iter().zip(&self.direct.total_seconds);
        Some(pairs.map(|(proxied, direct)| proxied - direct).collect())
    }
}

/// The times of all scrapes of one kind, in the order of the scrapes.
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

/// The contents of the answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ResponseAnalysis {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) openmetrics: bool,
    /// How the end of the body was marked, for people.
    pub(super) end: String,
    /// Bytes of the body as received, compressed or not.
    pub(super) wire_bytes: u64,
    /// Bytes of the decompressed text. `None` for an unknown content coding.
    pub(super) bytes: Option<u64>,
    /// Bytes with gzip, compressed by the exporter or by `probe`.
    pub(super) gzip_bytes: Option<u64>,
    /// How many of `wire_bytes` were analyzed. `None` if all were.
    pub(super) looked_at: Option<u64>,
    pub(super) lines: u64,
    pub(super) samples: u64,
    /// Number of families, up to the limit of the reader.
    pub(super) family_count: u64,
    /// Samples of families beyond that limit.
    pub(super) beyond_series: Option<u64>,
    pub(super) longest_line: Option<Longest>,
    /// Lines that are too long to be analyzed.
    pub(super) cut_lines: u64,
    /// Whether Prometheus accepts the answer.
    #[serde(default)]
    pub(super) acceptance: Acceptance,
    /// Number of problems for Prometheus.
    pub(super) problem_count: u64,
    /// The first problems for Prometheus, in the order of the text.
    pub(super) problems: Vec<Problem>,
    /// The problem that decides whether Prometheus accepts the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decisive: Option<Problem>,
    /// The error at which `promtool check metrics` stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) promtool: Option<Problem>,
    pub(super) families: Vec<Family>,
    /// What the proxy passes on. `None` without `metrics-keep` and `metrics-drop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filtered: Option<Filtered>,
}

/// What `metrics-keep` and `metrics-drop` leave of an answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Filtered {
    /// Bytes of the text.
    pub(super) bytes: u64,
    pub(super) samples: u64,
    /// Number of families that are left, up to the limit of the reader.
    pub(super) family_count: u64,
    /// Number of families that are left out.
    pub(super) families_dropped: u64,
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

/// The measure by which the largest families are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Largest {
    Bytes,
    Series,
}

impl ResponseAnalysis {
    /// The `top` largest families. Among equal families, the first in the text.
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
    #[error("not a measurement saved by `probe --save`")]
    Malformed(#[source] serde_json::Error),
    #[error("the measurement has version {0}, but this scrapegate reads version {VERSION}")]
    Version(u64),
    #[error("the measurement has no scrapes")]
    Empty,
}

/// Writes `measurement` to `path`, atomically.
pub(super) fn save(measurement: &Measurement, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(measurement)?;
    text.push(b'\n');
    file::write(path, &text, FileAccess::Public, Existing::Replace)
}

/// Reads a file written by [`save`].
pub(super) fn load(path: &Path) -> Result<Measurement, LoadError> {
    let text = file::read(path, MAX_FILE)?;
    // Check the version first, because another version may have other members.
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
