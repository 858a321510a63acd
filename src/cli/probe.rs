//! `scrapegate probe`: one exporter by itself, as the proxy scrapes it.
//!
//! The first scrape looks into the answer and warms everything up; those that are measured come
//! after it and look at nothing but the clock. Tells what it found as text, as JSON, or as a
//! monitoring plugin does, keeps it in a file, and compares it with an earlier one.

mod compare;
mod escape;
mod measurement;
mod proxy;
mod report;
mod scrape;
mod survey;
mod verdict;

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
    proxy::OwnProxy,
    scrape::{Compression, Failure},
    verdict::{State, Verdict},
};
use super::{PathArgs, complain};
use crate::{
    assets,
    config::{self, ExporterConfig, Finding, Findings, Severity},
    exporter::Exporter,
    scrape::Chain,
};

/// Scrapes one exporter directly, with the settings of the exporters file.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The exporter, as its section is called; it need not be enabled
    name: String,
    #[command(flatten)]
    files: PathArgs,
    /// How many scrapes to measure, one after the other; another one comes before them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Measure also through a scrapegate of its own on loopback, over mutual TLS
    #[arg(long)]
    through_proxy: bool,
    /// Do not ask for a compressed answer
    #[arg(long)]
    no_gzip: bool,
    /// How many of the largest families to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Say everything as JSON
    #[arg(long, conflicts_with = "plugin")]
    json: bool,
    /// Say only the line for a monitoring system
    #[arg(long)]
    plugin: bool,
    /// Keep the measurement in a file, for --compare; an older one is replaced
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with a measurement that --save kept; exit code 1 if it is slower now
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// By how much the median may differ before it counts as slower
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
        Ok(_) | Err(_) => Err("a number from 0 to 10000 is wanted"),
    }
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no section [{}] in the exporters file", .0.escape_debug())]
    NoExporter(String),
    #[error("the configuration has mistakes: {0}")]
    Configuration(Findings),
    #[error("cannot compare with {}", path.display())]
    Baseline { path: PathBuf, source: LoadError },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot start a proxy of its own")]
    Proxy(#[from] super::throwaway::Error),
    #[error(transparent)]
    Direct(Failure),
    #[error("through the proxy")]
    ThroughProxy(#[source] Failure),
    #[error("cannot write {}", path.display())]
    Save { path: PathBuf, source: io::Error },
}

impl Error {
    fn state(&self) -> State {
        match self {
            Self::Direct(_) | Self::ThroughProxy(_) => State::Critical,
            Self::NoExporter(_)
            | Self::Configuration(_)
            | Self::Baseline { .. }
            | Self::Runtime(_)
            | Self::Proxy(_)
            | Self::Save { .. } => State::Unknown,
        }
    }
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let (verdict, said) = match probe(args) {
        Ok((measurement, comparison)) => {
            let verdict = Verdict::of(&measurement, comparison.as_ref());
            let said = say(args, Some(&measurement), comparison.as_ref(), &verdict, out);
            (verdict, said)
        }
        Err(error) => {
            let why = Chain(&error);
            let verdict = Verdict::without_measurement(error.state(), &args.name, why);
            let said = say(args, None, None, &verdict, out);
            (verdict, said)
        }
    };
    match said {
        // Whoever pipes into `head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write: {error}"));
            State::Unknown.exit_code().into()
        }
        Ok(()) | Err(_) => verdict.state.exit_code().into(),
    }
}

fn say(
    args: &Args,
    measurement: Option<&Measurement>,
    comparison: Option<&Comparison>,
    verdict: &Verdict,
    out: &mut dyn Write,
) -> io::Result<()> {
    if args.json {
        report::json(measurement, comparison, verdict, args.top, out)?;
    } else {
        if let Some(measurement) = measurement.filter(|_| !args.plugin) {
            report::plain(measurement, comparison, args.top, out)?;
        }
        writeln!(out, "{verdict}")?;
    }
    out.flush()
}

fn probe(args: &Args) -> Result<(Measurement, Option<Comparison>), Error> {
    let (config, exporter) = exporter(args)?;
    // Before anything is scraped: a file that cannot be read would make it all in vain.
    let baseline = args.compare.as_deref().map(load_baseline).transpose()?;
    let runtime = super::runtime().map_err(Error::Runtime)?;
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

/// The section that is meant, with its files. Mistakes elsewhere are for `check`.
fn exporter(args: &Args) -> Result<(ExporterConfig, Exporter), Error> {
    let (exporters, findings) = config::exporters(&args.files.sources());
    let concerns = |finding: &&Finding| {
        let section = finding.origin.section.as_deref();
        finding.severity == Severity::Error
            && section.is_none_or(|section| section == args.name || section == "default")
    };
    let mut mistakes = Findings::default();
    findings.iter().filter(concerns).cloned().for_each(|finding| mistakes.push(finding));
    if !mistakes.is_empty() {
        return Err(Error::Configuration(mistakes));
    }
    let config = exporters
        .into_iter()
        .find(|exporter| exporter.name.value.as_str() == args.name)
        .ok_or_else(|| Error::NoExporter(args.name.clone()))?;
    match assets::exporter(&config) {
        (Some(exporter), _) => Ok((config, exporter)),
        (None, findings) => Err(Error::Configuration(findings)),
    }
}

async fn measure(
    args: &Args,
    config: &ExporterConfig,
    exporter: &Exporter,
) -> Result<Measurement, Error> {
    let request = args.request();
    let answer = survey::survey(exporter, &request).await.map_err(Error::Direct)?;
    let own = match args.through_proxy {
        true => Some(OwnProxy::start(exporter)?),
        false => None,
    };
    let mut direct = Runs::default();
    let mut proxied = own.as_ref().map(|_| Runs::default());
    if let Some(own) = &own {
        // As the survey did for the exporter.
        scrape::time(own.exporter(), &request).await.map_err(Error::ThroughProxy)?;
    }
    for round in 0..args.repeat {
        // Each goes first every other time, so that neither always finds the other's caches.
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
