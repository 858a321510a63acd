//! The composition root: binds, puts the parts together, runs until the shutdown is over.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::{
    accept::{Admission, Evicted, HandshakePermit, Ticket, accept_loop},
    activity::{Activity, Ending, Timeouts},
    assets::Assets,
    config::{Config, Limits},
    connection::{Closed, Downstream, Transport, drive},
    handler::{Service, handle},
    peer::{ClientIdentity, Peer},
    scrape::Chain,
    shutdown::Stage,
    tls::handshake,
    upstream::Connector,
    workers::Workers,
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// This long after the stall timeout the kernel gives a scraper up that does not acknowledge what
/// it was sent. It bounds what a host that vanished can hold.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(20);

/// Bytes that the kernel takes before the scraper's window lets it send them. Without it a scraper
/// that stopped reading would also fill a send buffer, which grows to megabytes.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 256 * 1024;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use, is not this host's, or needs privileges.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The worker threads cannot be started.
    #[error("cannot start the worker threads")]
    Workers(#[source] io::Error),
}

/// A server that listens and does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    workers: Workers,
    address: SocketAddr,
    admission: Arc<Admission>,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    hurry: Arc<Notify>,
    drain_timeout: Duration,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    tls: Option<Arc<ServerConfig>>,
    service: Arc<Service>,
    limits: Limits,
}

/// Ends a running [`Server`] stage by stage. Clones end the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    stage: watch::Sender<Stage>,
    /// Ends the drain. The server alone hears it: it counts what is left before it aborts it.
    hurry: Arc<Notify>,
}

impl Handle {
    /// Takes the shutdown one stage further: first a drain, then the end.
    pub fn shut_down(&self) {
        let begun = self.stage.send_if_modified(|stage| {
            let serving = *stage == Stage::Serving;
            if serving {
                *stage = Stage::Draining;
            }
            serving
        });
        if !begun {
            self.hurry.notify_one();
        }
    }
}

impl Server {
    /// Listens on the configured address. Connections wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(config: &Config, assets: Assets) -> Result<Self, StartError> {
        let address = config.listen;
        let cannot_listen = |source| StartError::Listen { address, source };
        let listener = listen(address).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let workers = Workers::start(config.worker_threads).map_err(StartError::Workers)?;
        let (stage, reached) = watch::channel(Stage::Serving);
        let limits = config.limits.clone();
        Ok(Self {
            listener,
            workers,
            address,
            admission: Admission::new(
                limits.max_connections,
                limits.max_connections_per_ip,
                limits.max_handshakes,
            ),
            drain_timeout: limits.drain_timeout.as_duration(),
            shared: Arc::new(Shared {
                tls: assets.tls,
                service: Arc::new(Service {
                    exporters: assets.exporters,
                    access: assets.access,
                    connector: Connector::Network,
                    scrape_timeout_offset: config.scrape_timeout_offset,
                    stage: reached,
                }),
                limits,
            }),
            stage,
            hurry: Arc::default(),
        })
    }

    /// The address it listens on, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What shuts it down.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { stage: self.stage.clone(), hurry: Arc::clone(&self.hurry) }
    }

    /// Accepts and serves until [`Handle::shut_down`]; then finishes the scrapes in flight for at
    /// most `drain-timeout`, aborts what is left, and returns.
    pub async fn run(self) {
        let Self { listener, workers, admission, shared, stage, hurry, drain_timeout, .. } = self;
        let service_stage = shared.service.stage.clone();
        let start = |stream: TcpStream, address, ticket| {
            let shared = Arc::clone(&shared);
            // Here, because the workers do not start them in the order of their arrival, and the
            // oldest is the first to give way.
            let tls = shared.tls.clone().map(|config| (config, admission.handshake()));
            // Out of the acceptor's runtime, and inside the worker's own.
            match stream.into_std() {
                Ok(stream) => workers.spawn(move || async move {
                    match TcpStream::from_std(stream) {
                        Ok(stream) => serve(stream, address, ticket, tls, shared).await,
                        Err(error) => tracing::error!(%error, "cannot serve a connection"),
                    }
                }),
                Err(error) => tracing::error!(%error, "cannot serve a connection"),
            }
        };
        accept_loop(listener, Arc::clone(&admission), service_stage, start).await;

        let in_flight = admission.open_connections();
        tracing::info!(connections = in_flight, "draining");
        let drained = tokio::select! {
            drained = timeout(drain_timeout, admission.all_closed()) => drained.is_ok(),
            () = hurry.notified() => false,
        };
        if !drained {
            let left = admission.open_connections();
            tracing::warn!(connections = left, "drain ended: aborting what is left");
            stage.send_replace(Stage::Ended);
            admission.all_closed().await;
        }
        tracing::info!("stopped");
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds connections of its predecessor in TIME-WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One connection from accept to close.
async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    _ticket: Ticket,
    tls: Option<(Arc<ServerConfig>, (HandshakePermit, impl Future<Output = Evicted>))>,
    shared: Arc<Shared>,
) {
    if let Err(error) = set_options(&stream, shared.limits.stall_timeout.as_duration()) {
        tracing::debug!(peer = %address, %error, "connection lost");
        return;
    }
    let transport = Transport::new(stream);
    let Some((config, (permit, evicted))) = tls else {
        let activity = new_activity(&shared.limits);
        serve_requests(transport, address, None, activity, &shared).await;
        return;
    };
    let limit = shared.limits.handshake_timeout.as_duration();
    let shaken = tokio::select! {
        shaken = handshake(transport, &config, limit) => shaken,
        evicted = evicted => {
            tracing::info!(peer = %address, reason = %evicted, "TLS handshake ended");
            return;
        }
        () = drain_begins(&shared) => return,
    };
    drop(permit);
    match shaken {
        Ok((stream, identity)) => {
            let activity = new_activity(&shared.limits);
            serve_requests(stream, address, identity, activity, &shared).await;
        }
        Err(error) => {
            tracing::info!(peer = %address, reason = Chain(&error).to_string(), "TLS handshake ended");
        }
    }
}

async fn drain_begins(shared: &Shared) {
    Stage::after(&mut shared.service.stage.clone(), false).await;
}

fn new_activity(limits: &Limits) -> Arc<Activity> {
    Arc::new(Activity::new(Timeouts {
        header: limits.header_timeout.as_duration(),
        idle: limits.idle_timeout.as_duration(),
        stall: limits.stall_timeout.as_duration(),
    }))
}

async fn serve_requests<S: Scraper>(
    mut stream: S,
    address: SocketAddr,
    identity: Option<ClientIdentity>,
    activity: Arc<Activity>,
    shared: &Shared,
) {
    stream.transport().report_to(Arc::clone(&activity));
    serve_stream(stream, Peer { address, identity }, activity, &shared.service).await;
}

/// Answers the requests that come on `stream` until it is over, and logs what ended it. The stream
/// may be any; of a socket, [`Transport`] tells `activity` what it takes.
///
/// Dropping the future closes the connection at once; a scrape in flight is aborted.
pub async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    activity: Arc<Activity>,
    service: &Arc<Service>,
) {
    let (address, peer) = (peer.address, Arc::new(peer));
    let stage = service.stage.clone();
    let stream = Downstream::new(stream, Arc::clone(&activity));
    let closed = drive(stream, Arc::clone(&activity), stage, |request| {
        let (service, peer) = (Arc::clone(service), Arc::clone(&peer));
        let activity = Arc::clone(&activity);
        Box::pin(async move { Ok(handle(service, peer, activity, request).await) })
    })
    .await;
    match closed {
        Closed::Normally => {}
        // A scrape that ends by its deadline, a stall or a shutdown has its own record.
        Closed::By(Ending::Header) => tracing::info!(
            peer = %address,
            client = peer.client(),
            reason = "no complete request head within header-timeout",
            "request refused"
        ),
        Closed::By(ending) => {
            tracing::debug!(peer = %address, client = peer.client(), ?ending, "connection ended");
        }
        // An aborted scrape has its own record; what is left is a request hyper could not read.
        Closed::Failed(error) if error.is_parse() || error.is_parse_too_large() => tracing::info!(
            peer = %address,
            client = peer.client(),
            reason = Chain(&error).to_string(),
            "request refused"
        ),
        Closed::Failed(error) => {
            tracing::debug!(peer = %address, reason = Chain(&error).to_string(), "connection ended");
        }
    }
}

/// The two kinds of stream there are from a scraper.
trait Scraper: AsyncRead + AsyncWrite + Unpin {
    fn transport(&mut self) -> &mut Transport;
}

impl Scraper for Transport {
    fn transport(&mut self) -> &mut Transport {
        self
    }
}

impl Scraper for TlsStream<Transport> {
    fn transport(&mut self) -> &mut Transport {
        self.get_mut().0
    }
}

fn set_options(stream: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    // Without it the last small write of a response waits for a delayed acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(stall_timeout + SILENCE))?;
        socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    }
    Ok(())
}
