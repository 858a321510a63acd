//! What applies to the scrapes of all exporters, and the path of the exporters file.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};

/// What applies to the scrapes of all exporters.
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    /// `[prometheus] enabled`. Default true. If false, `/prometheus` answers 404.
    pub enabled: bool,
    /// `[proxy] scrape-timeout-offset`: subtracted from the scrape timeout that Prometheus
    /// announces. Default 0.25 s.
    pub timeout_offset: Duration,
    /// `[proxy] max-compressions`: the largest number of answers that are compressed at the same
    /// time. Others are not compressed. Default 32.
    pub max_compressions: NonZeroU32,
}

/// Reads the group, and the path of the exporters file: `[prometheus] exporters`. Default
/// `prometheus_exporters.ini`, in the folder of `config.ini`. `None` if `enabled` is false.
pub(super) fn read(
    document: &Document,
    diagnostics: &mut Diagnostics,
) -> (Result<ScrapeConfig, Reported>, Option<PathBuf>) {
    let mut prometheus = SectionReader::of_table(document, &keys::PROMETHEUS, diagnostics);
    let enabled = prometheus.read_or("enabled", values::boolean, "True");
    let exporters = prometheus.path("exporters");
    let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
    let offset = proxy.read_or("scrape-timeout-offset", values::seconds_or_none, "0.25");
    let compressions = proxy.read_or("max-compressions", values::count, "32");

    let default_path = || document.folder().join("prometheus_exporters.ini");
    let file = match (enabled, exporters) {
        (Ok(false), Ok(_)) => None,
        (Ok(true), Ok(Some(path))) => Some(path.value),
        (Ok(true), Ok(None)) | (Err(Reported), _) | (_, Err(Reported)) => Some(default_path()),
    };
    let group = || {
        Ok(ScrapeConfig {
            enabled: enabled?,
            timeout_offset: offset?,
            max_compressions: compressions?,
        })
    };
    (group(), file)
}
