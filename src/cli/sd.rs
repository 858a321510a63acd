//! `scrapegate sd`: prints what Prometheus needs to scrape the exporters of this host.

mod openitcockpit;
mod scrape_config;

use std::io::{self, Write};

use clap::ValueEnum;

use super::{FileArgs, exit};
use crate::{
    common::exporter::{ExporterName, ScrapeRules},
    config::{self, Advertised, Config, Diagnostics},
    http::discovery,
};

/// Arguments of `sd`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Format::HttpSd)]
    format: Format,
    /// For scrape_config: print one job for each exporter, instead of one job that gets all
    /// exporters from the proxy by HTTP service discovery
    #[arg(long = "static")]
    fixed: bool,
}

/// What `sd` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON for http_sd_configs, as the proxy serves it at /prometheus/sd
    #[value(name = "http_sd")]
    HttpSd,
    /// The same JSON, to save as a file for file_sd_configs
    #[value(name = "file_sd")]
    FileSd,
    /// YAML with scrape_configs, for prometheus.yml
    #[value(name = "scrape_config")]
    ScrapeConfig,
    /// The settings to enter in openITCOCKPIT for each exporter
    #[value(name = "openitcockpit")]
    Openitcockpit,
}

/// Why `sd` printed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the configuration has errors\n{0}")]
    Configuration(Diagnostics),
    #[error("nothing to print, because `[prometheus] enabled` is False")]
    Disabled,
    #[error("--static requires --format scrape_config")]
    Static,
    #[error("the port is unknown, because the proxy listens on port 0; set `[proxy] advertise`")]
    AnyPort,
    #[error("the host name of this machine is not usable; set `[proxy] advertise`")]
    HostName,
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// 78 for errors in the files, 2 for the command line, 71 for the host name or the output.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Disabled => exit::CONFIGURATION,
            Self::Static | Self::AnyPort => exit::USAGE,
            Self::HostName | Self::Output(_) => exit::SYSTEM,
        }
    }
}

/// The exporters, and the address of their proxy.
struct Site<'a> {
    config: &'a Config,
    /// `HOST:PORT` of the proxy.
    target: String,
    /// The enabled exporters, in file order.
    exporters: Vec<(&'a ExporterName, &'a ScrapeRules)>,
}

/// Prints the exporters in the requested format.
///
/// # Errors
/// If the files have errors, or if the address of the proxy is unknown.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    if args.fixed && args.format != Format::ScrapeConfig {
        return Err(Error::Static);
    }
    let (config, diagnostics) = config::load(&args.files.sources());
    let config = config.ok_or(Error::Configuration(diagnostics))?;
    if !config.prometheus_enabled {
        return Err(Error::Disabled);
    }
    let site = Site::of(&config)?;
    match args.format {
        Format::HttpSd | Format::FileSd => writeln!(out, "{}", site.target_groups())?,
        Format::ScrapeConfig if args.fixed => write!(out, "{}", scrape_config::fixed(&site))?,
        Format::ScrapeConfig => write!(out, "{}", scrape_config::discovered(&site))?,
        Format::Openitcockpit => write!(out, "{}", openitcockpit::instructions(&site))?,
    }
    Ok(out.flush()?)
}

impl<'a> Site<'a> {
    fn of(config: &'a Config) -> Result<Self, Error> {
        let advertised = match &config.advertise {
            Some(advertised) => advertised.clone(),
            None => this_machine()?,
        };
        if advertised.port.is_none() && config.listen.port() == 0 {
            return Err(Error::AnyPort);
        }
        let enabled = config.exporters.iter().filter(|exporter| exporter.enabled);
        Ok(Self {
            config,
            target: advertised.target(config.listen.port()),
            exporters: enabled.map(|exporter| (&exporter.name.value, &exporter.rules)).collect(),
        })
    }

    fn target_groups(&self) -> String {
        let exporters = self.exporters.iter().copied();
        let groups = discovery::groups(self.config.security.scheme(), &self.target, exporters);
        format!("{:#}", serde_json::json!(groups))
    }
}

fn this_machine() -> Result<Advertised, Error> {
    let name = gethostname::gethostname();
    let name = name.into_string().map_err(|_| Error::HostName)?;
    config::advertised(&name).ok_or(Error::HostName)
}

/// A quoted YAML string. Every JSON string is also a YAML string.
fn quoted(text: &str) -> serde_json::Value {
    text.into()
}
