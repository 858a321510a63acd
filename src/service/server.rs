//! The composition root: binds the socket, connects all parts, and runs until the shutdown is
//! complete.

mod control;
mod descriptors;
mod listen;
mod open;
mod state;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{self, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

pub use self::{
    control::{Handle, ReloadError, Reloaded},
    listen::StartError,
};
use self::{
    descriptors::affordable,
    listen::{Listening, listen, take_over},
    open::{OpenConnections, Wire},
    state::{Lasting, State},
};
use crate::{
    common::{
        error::Chain,
        peer::{ANY_PEER, Host, Peer},
        reload::ReloadRequests,
        shutdown::ShutdownPhase,
    },
    config::{Config, Limits},
    downstream::{
        accept::{Admission, Evicted, HandshakePermit, Ticket, accept_loop, accept_waiting},
        activity::{Activity, Ending, Timeouts},
        connection::{Closed, Downstream, Transport, drive},
        handshake::handshake,
        turns::Turns,
    },
    http::{
        enrol::EnrolmentState,
        handler::{Service, handle},
        metrics::{AcceptError, Handshake, Metrics},
    },
    service::{assets::Assets, workers::Workers},
    tls::wall_clock,
};

/// How long after the stall timeout the kernel ends a connection whose scraper does not acknowledge
/// data (`TCP_USER_TIMEOUT`). This bounds the resources that a vanished host can use.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(20);

/// Limit for the bytes that the kernel accepts before it can send them (`TCP_NOTSENT_LOWAT`).
/// Without this limit, a scraper that does not read would also fill a send buffer, which grows to
/// megabytes.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 256 * 1024;

/// A server that listens and does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    workers: Workers,
    address: SocketAddr,
    admission: Arc<Admission>,
    shared: Arc<Shared>,
    /// Listeners that replace the current one after a reload.
    listeners: mpsc::UnboundedReceiver<Arc<TcpListener>>,
    handle: Handle,
    shutdown: watch::Receiver<ShutdownPhase>,
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    state: watch::Sender<Arc<State>>,
    connections: Arc<OpenConnections>,
    turns: Turns,
}

impl Shared {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.borrow().service.metrics)
    }
}

impl Server {
    /// Listens on the configured address, and starts the worker threads. Connections wait in the
    /// backlog until [`Server::run`].
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn bind(config: &Config, assets: Assets) -> Result<Self, StartError> {
        let (listener, address) = listen(config.listener.address)?;
        let listener = Arc::new(listener);
        let listening = Listening::Where {
            configured: config.listener.address,
            listener: Arc::downgrade(&listener),
        };
        Self::new(config, assets, (listener, address), listening)
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
        let (listener, address) = take_over(listener)?;
        Self::new(config, assets, (Arc::new(listener), address), Listening::OnGiven)
    }

    fn new(
        config: &Config,
        assets: Assets,
        (listener, address): (Arc<TcpListener>, SocketAddr),
        listening: Listening,
    ) -> Result<Self, StartError> {
        let workers = Workers::start(config.process.worker_threads).map_err(StartError::Workers)?;
        let (shutdown, phase) = watch::channel(ShutdownPhase::Serving);
        let reload = ReloadRequests::default();
        let lasting = Lasting {
            address,
            metrics: Arc::default(),
            answers: Arc::default(),
            enrolment: Arc::new(EnrolmentState::open(reload.clone())),
            reload,
            shutdown: phase.clone(),
        };
        let state = State::new(config, assets, lasting);
        let shared = Arc::new(Shared {
            state: watch::Sender::new(Arc::new(state)),
            connections: Arc::default(),
            turns: Turns::new(workers.count()),
        });
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
            shared: Arc::clone(&shared),
            listeners,
            handle: Handle {
                shared,
                listening: Arc::new(Mutex::new(listening)),
                listener: sender,
                pulse: workers.pulse(),
                shutdown,
                abort: Arc::default(),
            },
            shutdown: phase,
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
        let Self {
            mut listener, workers, admission, shared, mut listeners, handle, shutdown, ..
        } = self;
        let metrics = shared.metrics();
        // With TLS, count the connection like one that the client closes a moment later, during the
        // handshake.
        let ended = || match shared.state().tls() {
            Some(_) => metrics.handshake(Handshake::ConnectionLost),
            None => metrics.not_accepted(AcceptError::ConnectionLost),
        };
        let start = |stream: net::TcpStream, address: SocketAddr, ticket| {
            let shared = Arc::clone(&shared);
            // Counted here and not by the worker, because workers do not start connections in the
            // order of their arrival, and an address loses its oldest handshake first.
            let state = shared.state();
            let permit = state.tls().is_some().then(|| admission.handshake(address.ip()));
            workers.spawn(move || async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(stream, address, ticket, permit, state, shared).await,
                    Err(error) => {
                        tracing::error!(target: ANY_PEER, %error, "cannot serve connection");
                    }
                }
            });
        };
        let mut watching = std::pin::pin!(dismiss_expired(&shared));
        loop {
            tokio::select! {
                () = accept_loop(
                    &listener,
                    &admission,
                    &metrics,
                    shutdown.clone(),
                    ended,
                    &start,
                ) => break,
                never = &mut watching => match never {},
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
        shared.connections.enter(ShutdownPhase::Draining);
        let drain_timeout = shared.state().limits.drain_timeout.as_duration();

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
            shared.connections.enter(ShutdownPhase::Ended);
            admission.all_closed().await;
        }
        tracing::info!("stopped");
    }
}

/// Closes connections when a client certificate expires, or a CA or CRL by which it was verified.
/// Follows the wall clock, even if the clock is changed.
///
/// The validity of certificates is given in whole seconds, so this runs once at the beginning of
/// each second (RFC 5280 §4.1.2.5).
async fn dismiss_expired(shared: &Shared) -> Infallible {
    loop {
        let now = wall_clock();
        let state = shared.state();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let due = shared.connections.due(now, state.last_end_before(seconds));
        shared.connections.drain_unless(due, |peer, wire| state.judge(peer, wire)).await;
        drop(state);
        sleep(to_next_second(SystemTime::now())).await;
    }
}

/// The time until the wall clock shows the next second.
fn to_next_second(now: SystemTime) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since_1970.subsec_nanos().into())
}

/// Serves one connection, from accept to close.
async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    _ticket: Ticket,
    permit: Option<(HandshakePermit, impl Future<Output = Evicted>)>,
    state: Arc<State>,
    shared: Arc<Shared>,
) {
    let metrics = &state.service.metrics;
    let _counted = metrics.connection();
    if let Err(error) = set_options(&stream, state.limits.stall_timeout.as_duration()) {
        tracing::debug!(target: ANY_PEER, peer = %address, %error, "connection lost");
        return;
    }
    let transport = Transport::new(stream);
    let (Some(tls), Some((permit, evicted))) = (state.tls(), permit) else {
        let peer = Peer { address, identity: None };
        if state.admits(&peer, &Wire::Plain) {
            serve_requests(transport, peer, Wire::Plain, state, &shared).await;
        } else {
            metrics.not_accepted(AcceptError::PlainHttp);
            tracing::warn!(
                target: ANY_PEER,
                peer = %address,
                "closing connection: plain HTTP is allowed from loopback addresses only"
            );
        }
        return;
    };
    let limit = state.limits.handshake_timeout.as_duration();
    let before = wall_clock();
    let turns = (&shared.turns, Host::of(address.ip()));
    let shaken = tokio::select! {
        shaken = handshake(transport, &tls.config, limit, turns) => {
            shaken.map_err(|error| {
                (error.result(), Chain(&error).to_string(), error.refused().cloned())
            })
        }
        evicted = evicted => Err((Handshake::Evicted, evicted.to_string(), None)),
        () = drain_begins(&state) => {
            metrics.handshake(Handshake::Shutdown);
            return;
        }
    };
    drop(permit);
    match shaken {
        Ok((stream, identity)) => {
            metrics.handshake(Handshake::Ok);
            let chain = stream.get_ref().1.peer_certificates();
            let chain = chain.map(|chain| chain.iter().map(|der| der.clone().into_owned()));
            let shown = chain.map(Iterator::collect).unwrap_or_default();
            let peer = Peer { address, identity };
            serve_requests(stream, peer, Wire::Tls { shown, before }, state, &shared).await;
        }
        Err((result, reason, refused)) => {
            metrics.handshake(result);
            tracing::info!(
                target: ANY_PEER,
                peer = %address,
                subject = refused.as_ref().map(|refused| refused.subject.as_str()),
                issuer = refused.as_ref().map(|refused| refused.issuer.as_str()),
                reason,
                "TLS handshake failed"
            );
        }
    }
}

async fn drain_begins(state: &State) {
    ShutdownPhase::Serving.next(&mut state.service.shutdown.clone()).await;
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
    peer: Peer,
    wire: Wire,
    state: Arc<State>,
    shared: &Shared,
) {
    let activity = new_activity(&state.limits);
    stream.transport().report_to(Arc::clone(&activity));
    let peer = Arc::new(peer);
    // A reload replaces the state before it closes the connections that it excludes. Until then, a
    // request over plain HTTP must not be answered like one over TLS.
    let plain = match &wire {
        Wire::Plain => Some(Arc::clone(&state.service)),
        Wire::Tls { .. } => None,
    };
    let (place, shutdown) = shared.connections.add(Arc::clone(&peer), wire, Arc::clone(&activity));
    // From here on, a reload finds the connection. A reload since the handshake did not find it.
    if !Arc::ptr_eq(&state, &shared.state()) {
        let state = shared.state();
        place.dismiss_unless(|peer, wire| state.admits(peer, wire));
    }
    drop(state);
    let client = Arc::clone(&peer);
    let service = || match (shared.state(), &plain) {
        (now, Some(before)) if !now.admits(&client, &Wire::Plain) => Arc::clone(before),
        (now, _) => Arc::clone(&now.service),
    };
    let stream = Downstream::new(stream, Arc::clone(&activity), S::peer_has_ended);
    answer_requests(stream, peer, activity, shutdown, service).await;
}

/// Answers the requests that arrive on `stream` until the connection ends, and logs why it ended.
/// `stream` can be any stream. For a socket, use a [`Transport`], which reports to `activity` what
/// the socket accepts.
///
/// Dropping the future closes the connection at once. A scrape in progress is aborted.
pub async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    activity: Arc<Activity>,
    service: &Arc<Service>,
) {
    let shutdown = service.shutdown.clone();
    let stream = Downstream::new(stream, Arc::clone(&activity), |_| false);
    answer_requests(stream, Arc::new(peer), activity, shutdown, || Arc::clone(service)).await;
}

/// Each request uses the `service` at the time of its arrival.
async fn answer_requests<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Downstream<S>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    shutdown: watch::Receiver<ShutdownPhase>,
    service: impl Fn() -> Arc<Service> + Unpin,
) {
    let address = peer.address;
    let closed = drive(stream, Arc::clone(&activity), shutdown, |request| {
        let (service, peer) = (service(), Arc::clone(&peer));
        let activity = Arc::clone(&activity);
        Box::pin(async move { Ok(handle(service, peer, activity, request).await) })
    })
    .await;
    if let Some(reason) = closed.unread() {
        service().metrics.unread(reason);
    }
    match closed {
        Closed::Normally => {}
        // A scrape that is ended by its deadline, a stall or the shutdown has its own log record.
        Closed::By(Ending::Header) => tracing::info!(
            target: ANY_PEER,
            peer = %address,
            client = peer.client(),
            reason = "the request head was not complete within header-timeout",
            "request refused"
        ),
        Closed::By(ending) => {
            tracing::debug!(peer = %address, client = peer.client(), ?ending, "connection ended");
        }
        // An aborted scrape has its own log record. Otherwise hyper could not parse the request.
        Closed::Failed(error) if error.is_parse() || error.is_parse_too_large() => tracing::info!(
            target: ANY_PEER,
            peer = %address,
            client = peer.client(),
            reason = Chain(&error).to_string(),
            "request refused"
        ),
        Closed::BrokenTls(error) => tracing::info!(
            target: ANY_PEER,
            peer = %address,
            client = peer.client(),
            reason = format!("after the TLS handshake: {error}"),
            "request refused"
        ),
        Closed::Failed(error) => {
            tracing::debug!(peer = %address, reason = Chain(&error).to_string(), "connection ended");
        }
    }
}

/// A stream from a scraper: plain TCP or TLS.
trait Scraper: AsyncRead + AsyncWrite + Unpin {
    fn transport(&mut self) -> &mut Transport;

    /// See [`Transport::peer_has_ended`].
    fn peer_has_ended(&self) -> bool;
}

impl Scraper for Transport {
    fn transport(&mut self) -> &mut Transport {
        self
    }

    fn peer_has_ended(&self) -> bool {
        Self::peer_has_ended(self)
    }
}

impl Scraper for TlsStream<Transport> {
    fn transport(&mut self) -> &mut Transport {
        self.get_mut().0
    }

    fn peer_has_ended(&self) -> bool {
        self.get_ref().0.peer_has_ended()
    }
}

fn set_options(stream: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    // Without this option, the last small write of a response waits for a delayed acknowledgement,
    // 40 ms.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(stall_timeout + SILENCE))?;
        socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    }
    Ok(())
}
