//! Threads and logs of the process.

use std::num::NonZeroUsize;

use super::{
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};

/// Threads and logs of the process. They are fixed when the process starts: a reload does not
/// change them.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// `[proxy] worker-threads`. If absent, the number of cores.
    pub worker_threads: Option<NonZeroUsize>,
    /// `[proxy] log-format`. Default `text`.
    pub log_format: LogFormat,
}

/// `[proxy] log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

impl ProcessConfig {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let worker_threads = reader.read("worker-threads", values::threads);
        let log_format = reader.read_or("log-format", values::one_of(LOG_FORMATS), "text");
        Ok(Self {
            worker_threads: worker_threads?.map(|located| located.value),
            log_format: log_format?,
        })
    }
}
