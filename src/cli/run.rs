//! `scrapegate run`: the proxy.

use std::process::ExitCode;

use clap::Args;
use tokio::runtime::Builder;

use super::{FileArgs, VerbosityArgs, complain, exit};
use crate::{
    assets::{self, Assets},
    config::{self, Config, Findings, Severity, Sources},
    scrape::Chain,
    server::Server,
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
    telemetry::start(config.log_format, args.verbosity.verbosity());
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!(at = %finding.origin, "{}", finding.message);
    }
    // Accepts, waits for signals and drains; the workers have runtimes of their own.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(&config, assets)),
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            exit::SYSTEM.into()
        }
    }
}

async fn serve(config: &Config, assets: Assets) -> ExitCode {
    // Before the port is open: a signal that comes early must find its handler.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot handle signals");
            return exit::SYSTEM.into();
        }
    };
    let exporters = assets.exporters.as_ref().map_or(0, |exporters| exporters.len());
    let server = match Server::bind(config, assets) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            return exit::SYSTEM.into();
        }
    };
    tracing::info!(
        address = %server.address(),
        exporters,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let handle = server.handle();
    let mut running = std::pin::pin!(server.run());
    loop {
        tokio::select! {
            () = &mut running => return ExitCode::SUCCESS,
            request = signals.next() => match request {
                Request::ShutDown => handle.shut_down(),
                // Better said than ended by the signal's default action.
                Request::Reload => tracing::warn!("this version cannot reload: restart it"),
            },
        }
    }
}
