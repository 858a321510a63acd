//! `scrapegate check`: prints every error and warning with its line, then what would be served.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use time::OffsetDateTime;

use super::{args::FileArgs, console::complain, exit, figures::table, user};
use crate::{
    common::{
        compression::{CompressFor, CompressionRules},
        error::Chain,
        families::FamilyPattern,
    },
    config::{Config, ExporterConfig},
    service::{
        assets::Assets,
        reload::{Loaded, load},
    },
};

/// Which files to check, and as which user.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Read the files as this user, to find files that the service cannot read. Requires root,
    /// Linux only [default: the current user; for root and files in /etc/scrapegate: scrapegate]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

pub(super) fn check(args: &Args, out: &mut dyn Write) -> ExitCode {
    let sources = &args.files.sources();
    let user = match user::become_user(args.user.as_deref(), &sources.config_file()) {
        Ok(user) => user,
        Err(error) => {
            complain(Chain(&error));
            return exit::SYSTEM.into();
        }
    };
    let Loaded { state: loaded, diagnostics, .. } = load(sources);
    let written = (|| {
        writeln!(out, "config  {}", sources.config_file().display())?;
        if let Some(user) = user {
            writeln!(out, "user    {user}")?;
        }
        for diagnostic in diagnostics.iter() {
            writeln!(out, "{diagnostic}")?;
        }
        if let Some((config, assets)) = &loaded {
            if !diagnostics.is_empty() {
                writeln!(out)?;
            }
            summary(config, assets, out)?;
        }
        out.flush()
    })();
    match (written, loaded) {
        // With a pipe into `head`, a closed output is not an error.
        (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write to standard output: {error}"));
            exit::SYSTEM.into()
        }
        (_, None) => exit::FAILURE.into(),
        (_, Some(_)) => ExitCode::SUCCESS,
    }
}

fn summary(config: &Config, assets: &Assets, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "listen  {}", config.listener.address)?;
    writeln!(out)?;
    if config.scrapes.enabled {
        exporters(&config.exporters, out)?;
    } else {
        writeln!(out, "no exporters, because `[prometheus] enabled` is False")?;
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
            compression(&exporter.rules.compression),
        ]
    });
    table(["EXPORTER", "ENABLED", "TARGET", "INTERVAL", "TIMEOUT", "COMPRESSION"], rows, out)?;
    filters(all, out)
}

/// For whom and how answers are compressed, such as `auto: zstd, gzip`.
fn compression(rules: &CompressionRules) -> String {
    let word = rules.compress_for.name();
    if rules.compress_for == CompressFor::Nobody {
        return word.to_owned();
    }
    let names = rules.algorithms.iter().map(|algorithm| algorithm.name());
    format!("{word}: {}", names.collect::<Vec<_>>().join(", "))
}

/// The exporters with `metrics-keep` or `metrics-drop`, if there are any.
fn filters(all: &[ExporterConfig], out: &mut dyn Write) -> io::Result<()> {
    let shown = |pattern: Option<&FamilyPattern>| {
        pattern.map_or("-", FamilyPattern::as_str).replace(char::is_control, "\u{fffd}")
    };
    let filtered = all.iter().filter_map(|it| Some((&it.name.value, it.rules.families.as_ref()?)));
    let rows: Vec<_> = filtered
        .map(|(name, rules)| [name.to_string(), shown(rules.keep()), shown(rules.drop())])
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table(["FILTERED EXPORTER", "KEEPS", "DROPS"], rows.into_iter(), out)
}
