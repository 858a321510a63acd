//! Why `get` failed.

use std::{io, path::PathBuf, time::Duration};

use crate::cli::{client, figures::Length};

/// Why there is no complete body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    File(String),
    #[error("`{0}` is not a host name or IP address")]
    ServerName(String),
    #[error("refusing to send a password over http:// to another host")]
    OpenPassword,
    #[error(transparent)]
    Scrape(client::Error),
    #[error("the scrape failed after writing the body had blocked for {}", Length(*written))]
    SlowOutput { written: Duration, source: client::Error },
    #[error("cannot write {}", path.as_ref().map_or("to standard output".into(), |path| path.display().to_string()))]
    Output { path: Option<PathBuf>, source: io::Error },
    #[error("cannot install the signal handlers")]
    Signals(#[source] io::Error),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the reader of standard output went away, as `head` does. Needs no message.
    pub(super) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output { path: None, source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
