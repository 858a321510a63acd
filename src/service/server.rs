//! The composition root: binds the socket, connects all parts, and runs until the shutdown is
//! complete.

mod control;
mod descriptors;
mod listening;
mod state;

use std::{
    net::{self, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

pub use self::{
    control::{Handle, ReloadError, Reloaded},
    listening::StartError,
};
use self::{descriptors::affordable, listening::Listening, state::ProcessState};
use crate::{
    common::shutdown::ShutdownPhase,
    config::Config,
    downstream::{
        accept::{Admission, accept_loop, accept_waiting},
        context::SessionContext,
        handshake::HandshakeLimiter,
        session::{Session, count_ended},
    },
    service::{assets::Assets, workers::Workers},
};

/// A server that listens and does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    workers: Workers,
    address: SocketAddr,
    admission: Arc<Admission>,
    /// Listeners that replace the current one after a reload.
    listeners: mpsc::UnboundedReceiver<Arc<TcpListener>>,
    handle: Handle,
}

impl Server {
    /// Listens on the configured address, and starts the worker threads. Connections wait in the
    /// backlog until [`Server::run`].
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn bind(config: &Config, assets: Assets) -> Result<Self, StartError> {
        Self::new(config, assets, Listening::on(config.listener.address)?)
    }

    /// Takes over a socket that already listens, and ignores the configured address. Otherwise like
    /// [`Server::bind`].
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn on(
        listener: net::TcpListener,
        config: &Config,
        assets: Assets,
    ) -> Result<Self, StartError> {
        Self::new(config, assets, Listening::on_passed(listener)?)
    }

    fn new(
        config: &Config,
        assets: Assets,
        (listener, listening): (Arc<TcpListener>, Listening),
    ) -> Result<Self, StartError> {
        let workers = Workers::start(config.process.worker_threads).map_err(StartError::Workers)?;
        let (shutdown, phase) = watch::channel(ShutdownPhase::Serving);
        let address = listening.address;
        let process = ProcessState::new(phase);
        let state = process.serving(config, assets, address);
        let max_connections = affordable(config.limits.max_connections, workers.count().get());
        let (sender, listeners) = mpsc::unbounded_channel();
        Ok(Self {
            listener,
            address,
            admission: Admission::new(
                max_connections,
                config.limits.max_connections_per_ip,
                config.limits.max_handshakes,
            ),
            listeners,
            handle: Handle {
                context: Arc::new(SessionContext::new(
                    state,
                    HandshakeLimiter::new(workers.count()),
                )),
                process: Arc::new(process),
                listening: Arc::new(Mutex::new(listening)),
                listeners: sender,
                liveness: workers.liveness(),
                shutdown,
                abort: Arc::default(),
            },
            workers,
        })
    }

    /// The address on which the server listens at the start, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that reloads the server and shuts it down.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts and serves connections until [`Handle::drain`]. Then finishes the scrapes in
    /// progress for at most `drain-timeout`, aborts the remaining connections, and returns.
    pub async fn run(self) {
        let Self { mut listener, workers, admission, mut listeners, handle, .. } = self;
        let (context, metrics) = (&handle.context, handle.metrics());
        let ended = || count_ended(&context.state());
        let start = |stream: net::TcpStream, address: SocketAddr, ticket| {
            let context = Arc::clone(context);
            let session = Session::begin(context, &admission, stream, address, ticket);
            workers.spawn(move || session.serve());
        };
        let mut expiring = std::pin::pin!(context.drain_expired());
        loop {
            tokio::select! {
                () = accept_loop(
                    &listener,
                    &admission,
                    &metrics,
                    handle.shutdown.subscribe(),
                    ended,
                    &start,
                ) => break,
                never = &mut expiring => match never {},
                Some(next) = listeners.recv() => {
                    accept_waiting(&listener, &admission, &metrics, ended, start);
                    listener = next;
                }
            }
        }
        drop(listener);
        // A reload may have sent a listener that nobody will accept on.
        listeners.close();
        while listeners.try_recv().is_ok() {}
        context.enter(ShutdownPhase::Draining);
        let drain_timeout = context.state().limits.drain_timeout.as_duration();

        let in_flight = admission.open_connections();
        tracing::info!(connections = in_flight, "draining connections");
        let drained = tokio::select! {
            drained = timeout(drain_timeout, admission.all_closed()) => drained.is_ok(),
            () = handle.abort.notified() => false,
        };
        if !drained {
            let left = admission.open_connections();
            tracing::warn!(connections = left, "drain ended; aborting the remaining connections");
            handle.shutdown.send_replace(ShutdownPhase::Ended);
            context.enter(ShutdownPhase::Ended);
            admission.all_closed().await;
        }
        tracing::info!("stopped");
    }
}
