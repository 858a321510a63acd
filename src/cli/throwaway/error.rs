//! Why the proxy did not start.

use std::{io, net::SocketAddr};

use crate::tls::{ClientConfigError, TrustError, pki};

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("cannot write to a temporary folder")]
    Folder(#[source] io::Error),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the worker threads")]
    Threads(#[source] io::Error),
    #[error("cannot start the proxy")]
    Proxy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot set up TLS for the scrape")]
    Trust(#[from] TrustError),
    #[error("cannot set up TLS for the scrape")]
    Tls(#[from] ClientConfigError),
}

impl Error {
    /// Whether the operating system is the cause. All other causes are internal errors.
    pub(crate) fn is_system_error(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Listen { .. } | Self::Threads(_) => true,
            Self::Pki(_) | Self::Proxy(_) | Self::Trust(_) | Self::Tls(_) => false,
        }
    }
}
