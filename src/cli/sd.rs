//! `scrapegate sd`: prints what Prometheus needs to scrape the exporters of this host.

mod error;
mod openitcockpit;
mod scrape_config;
mod site;

use std::io::Write;

use clap::ValueEnum;

pub(crate) use self::error::Error;
use self::site::Site;
use super::args::FileArgs;
use crate::config;

/// Arguments of `sd`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// OutputFormat of the output
    #[arg(long, value_enum, default_value_t = OutputFormat::HttpSd)]
    format: OutputFormat,
    /// For scrape_config: print one job for each exporter, instead of one job that gets all
    /// exporters from the proxy by HTTP service discovery
    #[arg(long = "static")]
    fixed: bool,
}

/// What `sd` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
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

/// Prints the exporters in the requested format.
///
/// # Errors
/// If the files have errors, or if the address of the proxy is unknown.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    if args.fixed && args.format != OutputFormat::ScrapeConfig {
        return Err(Error::Static);
    }
    let (config, diagnostics) = config::load(&args.files.sources());
    let config = config.ok_or(Error::Configuration(diagnostics))?;
    if !config.scrapes.enabled {
        return Err(Error::Disabled);
    }
    let site = Site::of(&config)?;
    match args.format {
        OutputFormat::HttpSd | OutputFormat::FileSd => writeln!(out, "{}", site.target_groups())?,
        OutputFormat::ScrapeConfig if args.fixed => write!(out, "{}", scrape_config::fixed(&site))?,
        OutputFormat::ScrapeConfig => write!(out, "{}", scrape_config::discovered(&site))?,
        OutputFormat::Openitcockpit => write!(out, "{}", openitcockpit::instructions(&site))?,
    }
    Ok(out.flush()?)
}
