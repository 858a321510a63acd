//! Reads all sections of `config.ini`.

use std::path::PathBuf;

use super::{
    access::AccessConfig,
    diagnostics::Diagnostics,
    enrolment::EnrolmentConfig,
    exporters::ExporterConfig,
    ini::Document,
    limits::Limits,
    listener::ListenerConfig,
    pages::PageConfig,
    process::ProcessConfig,
    reload::ReloadConfig,
    scrapes::{self, ScrapeConfig},
    section_reader::Reported,
    sources::Sources,
};

/// The contents of both files.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the listener, and how its connections are secured.
    pub listener: ListenerConfig,
    /// Which clients are authorized.
    pub access: AccessConfig,
    /// Timeouts and limits for connections.
    pub limits: Limits,
    /// What applies to the scrapes of all exporters.
    pub scrapes: ScrapeConfig,
    /// The proxy's own pages.
    pub pages: PageConfig,
    /// Restrictions of enrollment, and the key that it generates.
    pub enrolment: EnrolmentConfig,
    /// What starts a reload.
    pub reload: ReloadConfig,
    /// Threads and logs of the process.
    pub process: ProcessConfig,
    /// All sections of the exporters file in file order, including disabled exporters.
    pub exporters: Vec<ExporterConfig>,
}

/// The contents of `config.ini`.
pub(super) struct ConfigIni {
    /// The configuration without the exporters.
    pub(super) config: Result<Config, Reported>,
    /// The path of the exporters file; `None` if `[prometheus] enabled = False`.
    pub(super) exporters: Option<PathBuf>,
}

/// Reads all sections. Problems are added to `diagnostics`.
pub(super) fn read(
    document: &Document,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> ConfigIni {
    let (scrapes, exporters) = scrapes::read(document, diagnostics);
    ConfigIni { config: config(document, sources, scrapes, diagnostics), exporters }
}

fn config(
    document: &Document,
    sources: &Sources,
    scrapes: Result<ScrapeConfig, Reported>,
    diagnostics: &mut Diagnostics,
) -> Result<Config, Reported> {
    // Every group is read before the first `?`, so that all errors are found.
    let listener = ListenerConfig::read(document, sources, diagnostics);
    let access = AccessConfig::read(document, diagnostics);
    let limits = Limits::read(document, diagnostics);
    let pages = PageConfig::read(document, diagnostics);
    let enrolment = EnrolmentConfig::read(document, diagnostics);
    let reload = ReloadConfig::read(document, diagnostics);
    let process = ProcessConfig::read(document, diagnostics);
    Ok(Config {
        listener: listener?,
        access: access?,
        limits: limits?,
        scrapes: scrapes?,
        pages: pages?,
        enrolment: enrolment?,
        reload: reload?,
        process: process?,
        exporters: Vec::new(),
    })
}
