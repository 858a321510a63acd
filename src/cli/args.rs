//! Arguments that several commands have.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::listen;
use crate::{config::Sources, service::telemetry::Verbosity};

/// Which files to read.
#[derive(Clone, Debug, Args)]
pub(super) struct PathArgs {
    /// Path of config.ini [default on Linux: /etc/scrapegate/config.ini or, if that does not exist,
    /// /etc/openitcockpit-agent/config.ini]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Path of the exporters file; overrides `[prometheus] exporters` [default:
    /// prometheus_exporters.ini in the folder of config.ini]
    #[arg(long, value_name = "FILE")]
    exporters: Option<PathBuf>,
}

impl PathArgs {
    pub(super) fn sources(&self) -> Sources {
        Sources { config: self.config.clone(), exporters: self.exporters.clone(), listen: None }
            .settled()
    }
}

/// Which files to read, and where to listen.
#[derive(Clone, Debug, Args)]
pub(super) struct FileArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// Address and port of the proxy; overrides `[default] address` and `port`. With port 0, the
    /// system picks a free port
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::address)]
    listen: Option<SocketAddr>,
}

impl FileArgs {
    pub(super) fn sources(&self) -> Sources {
        Sources { listen: self.listen, ..self.paths.sources() }
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct VerbosityArgs {
    /// Also log why connections ended
    #[arg(short, long)]
    verbose: bool,
    /// Log everything, including debug messages of libraries
    #[arg(short, long)]
    debug: bool,
}

impl VerbosityArgs {
    pub(super) fn verbosity(self) -> Verbosity {
        match self {
            Self { debug: true, .. } => Verbosity::Debug,
            Self { verbose: true, .. } => Verbosity::Verbose,
            Self { .. } => Verbosity::Normal,
        }
    }
}
