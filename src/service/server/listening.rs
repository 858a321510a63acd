//! The listening socket of the server, and why a server cannot start.

use std::{
    io,
    net::{self, SocketAddr},
    sync::{Arc, Weak},
};

use tokio::net::TcpListener;

use crate::downstream::socket::{listen, listen_in_place_of, take_over};

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server cannot listen on `address`: it is in use, does not belong to this host, or
    /// requires privileges.
    #[error("cannot listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The socket that the service manager passed cannot be used.
    #[error("cannot listen on the socket passed by the service manager")]
    Passed(#[source] io::Error),
    /// The worker threads cannot be started.
    #[error("cannot start the worker threads")]
    Workers(#[source] io::Error),
}

/// The socket on which the server listens.
#[derive(Debug)]
pub(super) struct Listening {
    /// The address with the real port.
    pub(super) address: SocketAddr,
    origin: Origin,
}

/// Where the listening socket comes from.
#[derive(Debug)]
enum Origin {
    /// The configured address.
    Configured {
        /// The address in the configuration. With port 0, the real address differs.
        address: SocketAddr,
        /// The server owns the listener, so this is gone when the server no longer accepts.
        listener: Weak<TcpListener>,
    },
    /// A socket that the service manager passed. The configured address is ignored.
    Passed,
}

impl Listening {
    /// Listens on the configured address.
    pub(super) fn on(configured: SocketAddr) -> Result<(Arc<TcpListener>, Self), StartError> {
        Self::opened(configured, listen(configured))
    }

    /// Listens on a socket that the service manager passed.
    pub(super) fn on_passed(
        listener: net::TcpListener,
    ) -> Result<(Arc<TcpListener>, Self), StartError> {
        let (listener, address) = take_over(listener).map_err(StartError::Passed)?;
        Ok((Arc::new(listener), Self { address, origin: Origin::Passed }))
    }

    /// Listens on another configured address, while this one still listens. Returns `None` if the
    /// configured address is the same, or if the service manager passed the socket.
    pub(super) fn moved_to(
        &self,
        configured: SocketAddr,
    ) -> Result<Option<(Arc<TcpListener>, Self)>, StartError> {
        match &self.origin {
            Origin::Configured { address, listener } if *address != configured => {
                let next = match listener.upgrade() {
                    Some(current) => listen_in_place_of(&current, configured),
                    None => listen(configured),
                };
                Self::opened(configured, next).map(Some)
            }
            Origin::Configured { .. } | Origin::Passed => Ok(None),
        }
    }

    fn opened(
        configured: SocketAddr,
        listener: io::Result<(TcpListener, SocketAddr)>,
    ) -> Result<(Arc<TcpListener>, Self), StartError> {
        let (listener, address) =
            listener.map_err(|source| StartError::Listen { address: configured, source })?;
        let listener = Arc::new(listener);
        let origin =
            Origin::Configured { address: configured, listener: Arc::downgrade(&listener) };
        Ok((listener, Self { address, origin }))
    }

    /// Whether the service manager passed the socket.
    pub(super) fn is_passed(&self) -> bool {
        matches!(self.origin, Origin::Passed)
    }
}
