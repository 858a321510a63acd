//! Why `sd` failed.

use std::io;

use crate::{cli::exit, config::Diagnostics};

/// Why `sd` printed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the configuration has errors\n{0}")]
    Configuration(Diagnostics),
    #[error("nothing to print, because `[prometheus] enabled` is False")]
    Disabled,
    #[error("--static requires --format scrape_config")]
    Static,
    #[error("the port is unknown, because the proxy listens on port 0; set `[proxy] advertise`")]
    AnyPort,
    #[error("the host name of this machine is not usable; set `[proxy] advertise`")]
    HostName,
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// 78 for errors in the files, 2 for the command line, 71 for the host name or the output.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Disabled => exit::CONFIGURATION,
            Self::Static | Self::AnyPort => exit::USAGE,
            Self::HostName | Self::Output(_) => exit::SYSTEM,
        }
    }
}
