//! `scrapegate run`: the proxy.

use std::{
    pin::pin,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::runtime::Builder;

use super::{
    args::{FileArgs, VerbosityArgs},
    console::complain_briefly,
    exit,
};
use crate::{
    common::{error::Chain, file::FileSet},
    config::{Config, Severity, Sources},
    service::{
        assets::Assets,
        reload::{Loaded, Reloader, first_expiry, load, names},
        server::Server,
        signals::{SignalAction, Signals},
        supervisor::systemd::{self, Notifier},
        telemetry::{self, Logs},
    },
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
    let Loaded { state, diagnostics, files } = load_in_time(&sources);
    let Some((config, assets)) = state else {
        if diagnostics.heal_with_time() {
            complain_briefly(format_args!(
                "not started; exit code 71, so that systemd tries again: {diagnostics}"
            ));
            // Not 78: systemd does not restart the service after exit code 78.
            return exit::SYSTEM.into();
        }
        complain_briefly(format_args!(
            "{}: not started, because the configuration has errors:\n{diagnostics}",
            sources.config_file().display()
        ));
        return exit::CONFIGURATION.into();
    };
    let logs = match telemetry::start(config.process.log_format, args.verbosity.verbosity()) {
        Ok(logs) => logs,
        Err(error) => {
            complain_briefly(format_args!("cannot start the thread that writes the log: {error}"));
            return exit::SYSTEM.into();
        }
    };
    for diagnostic in
        diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning)
    {
        tracing::warn!(at = %diagnostic.location, "{}", diagnostic.message);
    }
    // This runtime accepts, handles signals and drains. Each worker has its own runtime.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                code = serve(config, assets, sources, files, &logs) => code,
                never = logs.report_suppressed() => match never {},
            }
        }),
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            exit::SYSTEM.into()
        }
    }
}

/// How long to wait for a certificate that is not valid yet. At boot, the clock may be set soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loads both files and all files that they name. If the only errors are certificates that are not
/// valid yet, tries again each second for up to [`PATIENCE`].
///
/// The wait also spaces out the restarts by systemd, which gives up after five starts within ten
/// seconds.
fn load_in_time(sources: &Sources) -> Loaded {
    let begun = Instant::now();
    let mut announced = false;
    loop {
        let loaded = load(sources);
        if loaded.state.is_some() || !loaded.diagnostics.heal_with_time() {
            return loaded;
        }
        if begun.elapsed() >= PATIENCE {
            return loaded;
        }
        if !announced {
            complain_briefly(&loaded.diagnostics);
            complain_briefly(format_args!(
                "waiting up to {} s for the system clock to be set",
                PATIENCE.as_secs()
            ));
            announced = true;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

async fn serve(
    config: Config,
    assets: Assets,
    sources: Sources,
    files: FileSet,
    logs: &Logs,
) -> ExitCode {
    // Install the handlers before the port opens, so that no early signal is lost.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot install the signal handlers");
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
    let requests = handle.reload_requests();
    let reloader =
        Reloader::new(notifier.clone(), handle.clone(), sources, config, files, certificates);
    let mut reloading = pin!(reloader.run());
    let mut notifying = pin!(notifier.keep_notified());
    let mut running = pin!(server.run());
    loop {
        tokio::select! {
            // The server comes last, so that a reload canceled by the shutdown can still log it.
            biased;
            never = &mut reloading => match never {},
            never = &mut notifying => match never {},
            action = signals.next() => match action {
                SignalAction::ShutDown if handle.is_serving() => {
                    notifier.stopping();
                    handle.drain();
                }
                SignalAction::ShutDown => {
                    notifier.stopping();
                    handle.abort();
                }
                SignalAction::Reload => {
                    requests.request();
                }
            },
            () = &mut running => return ExitCode::SUCCESS,
        }
    }
}
