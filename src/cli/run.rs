//! `scrapegate run`: the proxy.

use std::process::ExitCode;

use clap::Args;
use tokio::{runtime::Builder, sync::mpsc, task::spawn_blocking};

use super::{FileArgs, VerbosityArgs, complain, exit};
use crate::{
    assets::{self, Assets},
    config::{self, Config, Findings, Severity, Sources},
    exporter::ExporterName,
    scrape::Chain,
    server::{Handle, Reloaded, Server},
    shutdown::{Request, Signals},
    telemetry,
};

#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    verbosity: VerbosityArgs,
}

/// Both files and all they name, or everything that is wrong with them.
pub(super) fn load(sources: &Sources) -> (Option<(Config, Assets)>, Findings) {
    let (config, mut findings) = config::survey(sources);
    let loaded = config.and_then(|config| {
        let (assets, more) = assets::load(&config);
        findings.extend(more);
        assets.map(|assets| (config, assets))
    });
    (loaded.filter(|_| !findings.has_errors()), findings)
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    let (loaded, findings) = load(&args.files.sources());
    let Some((config, assets)) = loaded else {
        complain("the configuration has mistakes, nothing is started");
        complain(findings);
        return exit::CONFIGURATION.into();
    };
    let floods = telemetry::start(config.log_format, args.verbosity.verbosity());
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!(at = %finding.origin, "{}", finding.message);
    }
    // Accepts, waits for signals and drains; the workers have runtimes of their own.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(async {
                tokio::select! {
                    code = serve(config, assets, args.files.sources()) => code,
                    never = floods.report_each_second() => match never {},
                }
            });
            floods.report();
            code
        }
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            exit::SYSTEM.into()
        }
    }
}

async fn serve(config: Config, assets: Assets, sources: Sources) -> ExitCode {
    // Before the port is open: a signal that comes early must find its handler.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot handle signals");
            return exit::SYSTEM.into();
        }
    };
    let exporters = assets.exporters.as_ref().map_or(0, |exporters| exporters.len());
    let first_expiry = first_expiry(&assets);
    let server = match Server::bind(&config, assets) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            return exit::SYSTEM.into();
        }
    };
    tracing::info!(
        address = %server.address(),
        exporters,
        names = names(&config, |_| true),
        first_certificate_expires = first_expiry,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let handle = server.handle();
    let (reload, wanted) = mpsc::channel(1);
    let mut reloading = std::pin::pin!(reload_each_time(wanted, &handle, config, &sources));
    let mut running = std::pin::pin!(server.run());
    loop {
        tokio::select! {
            () = &mut running => return ExitCode::SUCCESS,
            () = &mut reloading => {}
            request = signals.next() => match request {
                Request::ShutDown => handle.shut_down(),
                // When one waits already, it will see this change too.
                Request::Reload => drop(reload.try_send(())),
            },
        }
    }
}

/// Reads all files again each time it is `wanted`, and goes on with them if nothing is wrong.
async fn reload_each_time(
    mut wanted: mpsc::Receiver<()>,
    handle: &Handle,
    mut current: Config,
    sources: &Sources,
) {
    while let Some(()) = wanted.recv().await {
        // Files can be slow; connections are accepted meanwhile.
        let again = sources.clone();
        let Ok((loaded, findings)) = spawn_blocking(move || load(&again)).await else {
            handle.metrics().reload_failed();
            tracing::error!("reload failed, the configuration in use stays");
            continue;
        };
        for finding in findings.iter() {
            match finding.severity {
                Severity::Error => tracing::error!(at = %finding.origin, "{}", finding.message),
                Severity::Warning => tracing::warn!(at = %finding.origin, "{}", finding.message),
            }
        }
        let Some((config, assets)) = loaded else {
            handle.metrics().reload_failed();
            tracing::error!("reload refused, the configuration in use stays");
            continue;
        };
        let exporters = assets.exporters.as_ref().map_or(0, |exporters| exporters.len());
        let first_expiry = first_expiry(&assets);
        match handle.reload(&config, assets) {
            Ok(Reloaded { listens_anew, dismissed }) => {
                for key in needs_restart(&current, &config) {
                    tracing::warn!(key, "a change of this key takes a restart");
                }
                if let Some(address) = listens_anew {
                    tracing::info!(%address, "listening");
                }
                tracing::info!(
                    exporters,
                    added = names(&config, |name| !serves(&current, name)),
                    removed = names(&current, |name| !serves(&config, name)),
                    dismissed,
                    first_certificate_expires = first_expiry,
                    "reloaded"
                );
                current = config;
            }
            Err(error) => {
                handle.metrics().reload_failed();
                tracing::error!(
                    error = %Chain(&error),
                    "reload refused, the configuration in use stays"
                );
            }
        }
    }
}

/// The names of the enabled exporters that are `wanted`, in file order; absent when there is none.
fn names(config: &Config, wanted: impl Fn(&ExporterName) -> bool) -> Option<String> {
    let enabled = config.exporters.iter().filter(|exporter| exporter.enabled);
    let names: Vec<&str> = enabled
        .map(|exporter| &exporter.name.value)
        .filter(|name| wanted(name))
        .map(ExporterName::as_str)
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn serves(config: &Config, name: &ExporterName) -> bool {
    config.exporters.iter().any(|exporter| exporter.enabled && exporter.name.value == *name)
}

/// The day on which the first certificate expires.
fn first_expiry(assets: &Assets) -> Option<String> {
    let first = assets.certificates.iter().map(|file| file.expires).min();
    first.map(|expires| expires.date().to_string())
}

/// Keys that are looked at when the process starts, and are others now.
fn needs_restart(before: &Config, now: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.limits, &now.limits);
    [
        ("worker-threads", before.worker_threads != now.worker_threads),
        ("log-format", before.log_format != now.log_format),
        ("max-connections", old.max_connections != new.max_connections),
        ("max-connections-per-ip", old.max_connections_per_ip != new.max_connections_per_ip),
        ("max-handshakes", old.max_handshakes != new.max_handshakes),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
