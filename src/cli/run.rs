//! `scrapegate run`: the proxy.

use std::{
    pin::pin,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::runtime::Builder;

use super::{FileArgs, VerbosityArgs, complain_briefly, exit};
use crate::{
    assets::Assets,
    config::{Config, Severity, Sources},
    file::Files,
    reload::{Loaded, Reloader, first_expiry, load, names},
    scrape::Chain,
    server::Server,
    shutdown::{Request, Signals},
    systemd::{self, Notifier},
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
    let Loaded { state, findings, files } = load_in_time(&sources);
    let Some((config, assets)) = state else {
        if findings.heal_with_time() {
            complain_briefly(format_args!(
                "not started (exit code 71, so systemd tries again): {findings}"
            ));
            // Not 78: after that systemd does not try again.
            return exit::SYSTEM.into();
        }
        complain_briefly(format_args!(
            "{}: the configuration has mistakes; nothing is started",
            sources.config_file().display()
        ));
        complain_briefly(findings);
        return exit::CONFIGURATION.into();
    };
    let logs = match telemetry::start(config.log_format, args.verbosity.verbosity()) {
        Ok(logs) => logs,
        Err(error) => {
            complain_briefly(format_args!("cannot start the thread that writes the log: {error}"));
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

/// How long a certificate that is not valid yet is waited for: at boot the clock may be set any
/// moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads both files and all they name; again and again for a while, if time heals what is wrong.
///
/// The wait also spaces the starts that a service manager tries: five within ten seconds are
/// systemd's limit.
fn load_in_time(sources: &Sources) -> Loaded {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let loaded = load(sources);
        if loaded.state.is_some() || !loaded.findings.heal_with_time() {
            return loaded;
        }
        if begun.elapsed() >= PATIENCE {
            return loaded;
        }
        if !told {
            complain_briefly(&loaded.findings);
            complain_briefly(format_args!(
                "waiting for up to {} s: the clock may be set soon",
                PATIENCE.as_secs()
            ));
            told = true;
        }
        thread::sleep(Duration::from_secs(1));
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
    let certificates = assets.validities();
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
    let notifier = Notifier::from_env(handle.clone());
    notifier.ready();
    let trigger = handle.trigger();
    let reloader =
        Reloader::new(notifier.clone(), handle.clone(), sources, config, files, certificates);
    let mut reloading = pin!(reloader.run());
    let mut telling = pin!(notifier.keep_told());
    let mut running = pin!(server.run());
    loop {
        tokio::select! {
            // The server last: a reload that the shutdown cancels says so before the end.
            biased;
            never = &mut reloading => match never {},
            never = &mut telling => match never {},
            request = signals.next() => match request {
                Request::ShutDown => {
                    notifier.stopping();
                    handle.shut_down();
                }
                Request::Reload => {
                    trigger.pull();
                }
            },
            () = &mut running => return ExitCode::SUCCESS,
        }
    }
}
