//! `scrapegate sd`: what Prometheus needs to know to scrape the exporters of this host.

mod openitcockpit;
mod scrape_config;

use std::io::{self, Write};

use clap::ValueEnum;

use super::{FileArgs, exit};
use crate::{
    config::{self, Config, Findings},
    discovery::{self, Advertised},
    exporter::{ExporterName, ScrapeRules},
};

/// Which files to read, and what to make of them.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::HttpSd)]
    format: Format,
    /// In scrape_config: a job for each exporter, in place of one that asks the proxy for them
    #[arg(long = "static")]
    fixed: bool,
}

/// What `sd` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The JSON of /prometheus/sd
    #[value(name = "http_sd")]
    HttpSd,
    /// The same, as a file for file_sd_configs
    #[value(name = "file_sd")]
    FileSd,
    /// A prometheus.yml, or the scrape_configs of one
    #[value(name = "scrape_config")]
    ScrapeConfig,
    /// What to enter for each exporter in openITCOCKPIT
    #[value(name = "openitcockpit")]
    Openitcockpit,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the configuration has mistakes\n{0}")]
    Configuration(Findings),
    #[error("[prometheus] enabled is False, so there is nothing to scrape")]
    Disabled,
    #[error("--static is for --format scrape_config")]
    Static,
    #[error("only the running proxy knows which port it got for port 0; set [proxy] advertise")]
    AnyPort,
    #[error("the host name of this machine cannot be used; set [proxy] advertise")]
    HostName,
    #[error("cannot write to the standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// 78 for what is wrong with the files, 2 for the command line, 71 for the machine.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Disabled => exit::CONFIGURATION,
            Self::Static | Self::AnyPort => exit::USAGE,
            Self::HostName | Self::Output(_) => exit::SYSTEM,
        }
    }
}

/// The exporters, and where the proxy in front of them is.
struct Site<'a> {
    config: &'a Config,
    /// `HOST:PORT` of the proxy.
    target: String,
    /// The enabled ones, in file order.
    exporters: Vec<(&'a ExporterName, &'a ScrapeRules)>,
}

/// Prints what was asked for.
///
/// # Errors
/// When the files have mistakes, or it is not known where the proxy is.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    if args.fixed && args.format != Format::ScrapeConfig {
        return Err(Error::Static);
    }
    let (config, findings) = config::load(&args.files.sources());
    let config = config.ok_or(Error::Configuration(findings))?;
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

/// A string as YAML has it, whatever is in it: JSON's are YAML's.
fn quoted(text: &str) -> serde_json::Value {
    text.into()
}
