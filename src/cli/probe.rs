//! `scrapegate probe`: scrapes one exporter directly, as the proxy does.
//!
//! The first scrape analyzes the answer and warms up caches. The scrapes after it are only timed.
//! Prints the result as text, as JSON, or as the line of a monitoring plugin. Can save the result
//! and compare it with an earlier one.

mod analysis;
mod compare;
mod escape;
mod filtered;
mod measurement;
mod plugin;
mod proxy;
mod report;
mod scrape;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use hyper::http::request::Parts;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{
    compare::Comparison,
    measurement::{LoadError, Measurement, Runs},
    plugin::{PluginResult, PluginState},
    proxy::OwnProxy,
    scrape::{Compression, Failure},
};
use super::{args::PathArgs, console::complain, runtime};
use crate::{
    common::{error::Chain, exporter::Exporter},
    config::{self, Diagnostic, Diagnostics, ExporterConfig, Severity},
    service::assets,
};

/// Arguments of `probe`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the exporter's section in the exporters file. The exporter need not be enabled
    name: String,
    #[command(flatten)]
    files: PathArgs,
    /// Number of scrapes to measure (1 to 10000), one after the other. `probe` makes one more scrape
    /// first, to analyze the answer. Use 5 or more to compare
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Also measure scrapes through a temporary scrapegate on loopback, over mutual TLS
    #[arg(long)]
    through_proxy: bool,
    /// Do not send `Accept-Encoding: gzip`, which Prometheus sends. The option has no effect with
    /// `metrics-keep` or `metrics-drop`: the exporter is then always asked for an uncompressed answer
    #[arg(long)]
    no_gzip: bool,
    /// Number of metric families to list, by bytes and by series
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Print the whole result as one JSON document
    #[arg(long, conflicts_with = "plugin")]
    json: bool,
    /// Print only the line for a monitoring system
    #[arg(long)]
    plugin: bool,
    /// Save the measurement to this file, for --compare. Replaces an existing file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with a measurement saved by --save. Exit code 1 if the exporter is slower now
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// For --compare: by how much a median may change, in percent (0 to 10000)
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percentage)]
    tolerance: f64,
}

impl Args {
    fn request(&self) -> Parts {
        scrape::request(if self.no_gzip { Compression::None } else { Compression::Gzip })
    }
}

fn percentage(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if (0.0..=10_000.0).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err("expected a number from 0 to 10000"),
    }
}

/// Why `probe` has no measurement.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no section [{}] in the exporters file", .0.escape_debug())]
    NoExporter(String),
    #[error("the configuration has errors: {0}")]
    Configuration(Diagnostics),
    #[error("cannot compare with {}", path.display())]
    Baseline { path: PathBuf, source: LoadError },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot start the temporary proxy")]
    Proxy(#[from] super::throwaway::Error),
    #[error(transparent)]
    Direct(Failure),
    #[error("through the proxy")]
    ThroughProxy(#[source] Failure),
    #[error("cannot write {}", path.display())]
    Save { path: PathBuf, source: io::Error },
}

impl Error {
    fn state(&self) -> PluginState {
        match self {
            Self::Direct(_) | Self::ThroughProxy(_) => PluginState::Critical,
            Self::NoExporter(_)
            | Self::Configuration(_)
            | Self::Baseline { .. }
            | Self::Runtime(_)
            | Self::Proxy(_)
            | Self::Save { .. } => PluginState::Unknown,
        }
    }
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let (result, printed) = match probe(args) {
        Ok((measurement, comparison)) => {
            let result = PluginResult::of(&measurement, comparison.as_ref());
            let printed = print(args, Some(&measurement), comparison.as_ref(), &result, out);
            (result, printed)
        }
        Err(error) => {
            let why = Chain(&error);
            let result = PluginResult::without_measurement(error.state(), &args.name, why);
            let printed = print(args, None, None, &result, out);
            (result, printed)
        }
    };
    match printed {
        // With a pipe into `head`, a closed output is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write to standard output: {error}"));
            PluginState::Unknown.exit_code().into()
        }
        Ok(()) | Err(_) => result.state.exit_code().into(),
    }
}

fn print(
    args: &Args,
    measurement: Option<&Measurement>,
    comparison: Option<&Comparison>,
    result: &PluginResult,
    out: &mut dyn Write,
) -> io::Result<()> {
    if args.json {
        report::json(measurement, comparison, result, args.top, out)?;
    } else {
        if let Some(measurement) = measurement.filter(|_| !args.plugin) {
            report::plain(measurement, comparison, args.top, out)?;
        }
        writeln!(out, "{result}")?;
    }
    out.flush()
}

fn probe(args: &Args) -> Result<(Measurement, Option<Comparison>), Error> {
    let (config, exporter) = exporter(args)?;
    // Load this first, because without it the scrapes would be useless.
    let baseline = args.compare.as_deref().map(load_baseline).transpose()?;
    let runtime = runtime::current_thread().map_err(Error::Runtime)?;
    let measurement = runtime.block_on(measure(args, &config, &exporter))?;
    if let Some(path) = &args.save {
        measurement::save(&measurement, path)
            .map_err(|source| Error::Save { path: path.clone(), source })?;
    }
    let comparison =
        baseline.map(|before| Comparison::between(&before, &measurement, args.tolerance));
    Ok((measurement, comparison))
}

fn load_baseline(path: &Path) -> Result<Measurement, Error> {
    measurement::load(path).map_err(|source| Error::Baseline { path: path.to_owned(), source })
}

/// The section of the exporter, with its files. Errors in other sections do not matter here.
fn exporter(args: &Args) -> Result<(ExporterConfig, Exporter), Error> {
    let (exporters, diagnostics) = config::exporters(&args.files.sources());
    let concerns = |diagnostic: &&Diagnostic| {
        let section = diagnostic.location.section.as_deref();
        diagnostic.severity == Severity::Error
            && section.is_none_or(|section| section == args.name || section == "default")
    };
    let mut mistakes = Diagnostics::default();
    diagnostics.iter().filter(concerns).cloned().for_each(|diagnostic| mistakes.push(diagnostic));
    if !mistakes.is_empty() {
        return Err(Error::Configuration(mistakes));
    }
    let config = exporters
        .into_iter()
        .find(|exporter| exporter.name.value.as_str() == args.name)
        .ok_or_else(|| Error::NoExporter(args.name.clone()))?;
    match assets::exporter(&config) {
        (Some(exporter), _) => Ok((config, exporter)),
        (None, diagnostics) => Err(Error::Configuration(diagnostics)),
    }
}

async fn measure(
    args: &Args,
    config: &ExporterConfig,
    exporter: &Exporter,
) -> Result<Measurement, Error> {
    let request = args.request();
    let answer = analysis::analyze(exporter, &request).await.map_err(Error::Direct)?;
    let own = match args.through_proxy {
        true => Some(OwnProxy::start(exporter)?),
        false => None,
    };
    let mut direct = Runs::default();
    let mut proxied = own.as_ref().map(|_| Runs::default());
    if let Some(own) = &own {
        // Warm up, as the analysis did for the direct scrapes.
        scrape::time(own.exporter(), &request).await.map_err(Error::ThroughProxy)?;
    }
    for round in 0..args.repeat {
        // Take turns in going first, so that neither always profits from caches of the other.
        let proxy_first = round % 2 == 1;
        if let Some((own, runs)) = own.as_ref().zip(proxied.as_mut()).filter(|_| proxy_first) {
            through(own, &request, runs).await?;
        }
        direct.add(scrape::time(exporter, &request).await.map_err(Error::Direct)?);
        if let Some((own, runs)) = own.as_ref().zip(proxied.as_mut()).filter(|_| !proxy_first) {
            through(own, &request, runs).await?;
        }
    }
    if let Some(own) = own {
        own.stop().await;
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    Ok(Measurement {
        version: Measurement::VERSION,
        scrapegate: env!("CARGO_PKG_VERSION").to_owned(),
        taken: now(),
        exporter: args.name.clone(),
        target: format!("{scheme}://{}{}", config.target, config.path.as_str()),
        enabled: config.enabled,
        interval_seconds: config.rules.interval.as_duration().as_secs_f64(),
        timeout_seconds: config.rules.timeout.as_duration().as_secs_f64(),
        direct,
        through_proxy: proxied,
        answer,
    })
}

async fn through(own: &OwnProxy, request: &Parts, runs: &mut Runs) -> Result<(), Error> {
    runs.add(scrape::time(own.exporter(), request).await.map_err(Error::ThroughProxy)?);
    Ok(())
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}
