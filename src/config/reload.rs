//! What starts a reload.

use super::{
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};
use crate::common::deadline::Budget;

/// What starts a reload, in addition to the service manager.
#[derive(Clone, Debug)]
pub struct ReloadConfig {
    /// `[proxy] http-reload`: whether `POST /-/reload` is allowed. Default false.
    pub over_http: bool,
    /// `[proxy] reload-interval`: how often the files are checked for changes. Default 30 s.
    pub interval: Budget,
}

impl ReloadConfig {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let over_http = reader.read_or("http-reload", values::boolean, "False");
        let interval = reader.read_or("reload-interval", values::seconds, "30");
        Ok(Self { over_http: over_http?, interval: interval? })
    }
}
