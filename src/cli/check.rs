//! `scrapegate check`: every mistake with its line, else what would be served.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use time::OffsetDateTime;

use super::{complain, exit, run::load};
use crate::{
    assets::Assets,
    config::{Config, ExporterConfig, Sources},
};

pub(super) fn check(sources: &Sources, out: &mut dyn Write) -> ExitCode {
    let (loaded, findings) = load(sources);
    let written = (|| {
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
            exit::INTERNAL.into()
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
        let rows = assets.certificates.iter().map(|certificate| {
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

/// Columns as wide as their widest cell; the last one ends with its text.
fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}  ")).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
