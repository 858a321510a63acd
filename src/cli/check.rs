//! `scrapegate check`: every mistake with its line, else what would be served.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use time::OffsetDateTime;

use super::{complain, exit, figures::table};
use crate::{
    assets::Assets,
    config::{Config, ExporterConfig, Sources},
    reload::{Loaded, load},
};

pub(super) fn check(sources: &Sources, out: &mut dyn Write) -> ExitCode {
    let Loaded { state: loaded, findings, .. } = load(sources);
    let written = (|| {
        writeln!(out, "config  {}", sources.config_file().display())?;
        for finding in findings.iter() {
            writeln!(out, "{finding}")?;
        }
        if let Some((config, assets)) = &loaded {
            if !findings.is_empty() {
                writeln!(out)?;
            }
            summary(config, assets, out)?;
        }
        out.flush()
    })();
    match (written, loaded) {
        // Whoever pipes into `head` has seen enough.
        (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write: {error}"));
            exit::SYSTEM.into()
        }
        (_, None) => exit::MISTAKES.into(),
        (_, Some(_)) => ExitCode::SUCCESS,
    }
}

fn summary(config: &Config, assets: &Assets, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "listen  {}", config.listen)?;
    writeln!(out)?;
    if config.prometheus_enabled {
        exporters(&config.exporters, out)?;
    } else {
        writeln!(out, "no exporters: [prometheus] enabled is False")?;
    }
    if !assets.certificates.is_empty() {
        writeln!(out)?;
        let now = OffsetDateTime::now_utc();
        let files = assets.validities();
        let rows = files.iter().map(|certificate| {
            let days = (certificate.expires - now).whole_days();
            [
                certificate.role.to_owned(),
                certificate.expires.date().to_string(),
                format!("{days} days"),
                certificate.path.display().to_string(),
            ]
        });
        table(["CERTIFICATE", "EXPIRES", "IN", "FILE"], rows, out)?;
    }
    Ok(())
}

fn exporters(all: &[ExporterConfig], out: &mut dyn Write) -> io::Result<()> {
    let rows = all.iter().map(|exporter| {
        let scheme = if exporter.tls.is_some() { "https" } else { "http" };
        let path = exporter.path.as_str();
        [
            exporter.name.value.to_string(),
            if exporter.enabled { "yes" } else { "no" }.to_owned(),
            format!("{scheme}://{}{path}", exporter.target),
            exporter.rules.interval.to_string(),
            exporter.rules.timeout.to_string(),
        ]
    });
    table(["EXPORTER", "ENABLED", "TARGET", "INTERVAL", "TIMEOUT"], rows, out)
}
