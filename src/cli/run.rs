//! `scrapegate run`: the proxy.

use std::{pin::pin, process::ExitCode};

use clap::Args;
use tokio::runtime::Builder;

use super::{FileArgs, VerbosityArgs, complain, exit};
use crate::{
    assets::Assets,
    config::{Config, Severity, Sources},
    file::Files,
    reload::{Loaded, Reloader, first_expiry, load, names},
    scrape::Chain,
    server::Server,
    shutdown::{Request, Signals},
    systemd,
    telemetry::{self, Logs},
};

#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    verbosity: VerbosityArgs,
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    let sources = args.files.sources();
    let Loaded { state, findings, files } = load(&sources);
    let Some((config, assets)) = state else {
        complain(format_args!(
            "{}: the configuration has mistakes; nothing is started",
            sources.config_file().display()
        ));
        complain(findings);
        return exit::CONFIGURATION.into();
    };
    let logs = match telemetry::start(config.log_format, args.verbosity.verbosity()) {
        Ok(logs) => logs,
        Err(error) => {
            complain(format_args!("cannot start the thread that writes the log: {error}"));
            return exit::SYSTEM.into();
        }
    };
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!(at = %finding.origin, "{}", finding.message);
    }
    // Accepts, waits for signals and drains; the workers have runtimes of their own.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                code = serve(config, assets, sources, files, &logs) => code,
                never = logs.report_floods() => match never {},
            }
        }),
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            exit::SYSTEM.into()
        }
    }
}

async fn serve(
    config: Config,
    assets: Assets,
    sources: Sources,
    files: Files,
    logs: &Logs,
) -> ExitCode {
    // Before the port is open: a signal that comes early must find its handler.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot handle signals");
            return exit::SYSTEM.into();
        }
    };
    let given = match systemd::listener() {
        Ok(given) => given,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            return exit::SYSTEM.into();
        }
    };
    let first_expiry = first_expiry(&assets);
    let server = match given {
        None => Server::bind(&config, assets),
        Some(listener) => Server::on(listener, &config, assets),
    };
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            return exit::SYSTEM.into();
        }
    };
    let handle = server.handle();
    handle.metrics().watch_log(logs.dropped());
    tracing::info!(
        address = %server.address(),
        exporters = handle.exporters(),
        names = names(&config, |_| true),
        first_certificate_expires = first_expiry,
        config = %sources.config_file().display(),
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    systemd::ready(&handle);
    let trigger = handle.trigger();
    let mut reloading = pin!(Reloader::new(handle.clone(), sources, config, files).run());
    let mut telling = pin!(systemd::keep_told(&handle));
    let mut running = pin!(server.run());
    loop {
        tokio::select! {
            () = &mut running => return ExitCode::SUCCESS,
            never = &mut reloading => match never {},
            never = &mut telling => match never {},
            request = signals.next() => match request {
                Request::ShutDown => {
                    systemd::stopping(&handle);
                    handle.shut_down();
                }
                Request::Reload => {
                    trigger.pull();
                }
            },
        }
    }
}
