//! The composition root: binds, puts the parts together, runs until the shutdown is over.

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
    task::yield_now,
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
    accept::{Admission, Evicted, HandshakePermit, Ticket, accept_loop, accept_waiting},
    activity::{Activity, Ending, Timeouts},
    assets::Assets,
    config::{Config, Limits},
    connection::{Closed, Downstream, Transport, drive},
    enrol::Office,
    handler::{Service, handle},
    metrics::{AcceptError, Handshake, Metrics},
    peer::{ANY_PEER, Host, Peer},
    scrape::Chain,
    shutdown::Stage,
    tls::{Turns, handshake, wall_clock},
    trigger::Trigger,
    workers::Workers,
};

/// This long after the stall timeout the kernel gives a scraper up that does not acknowledge what
/// it was sent. It bounds what a host that vanished can hold.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(20);

/// Bytes that the kernel takes before the scraper's window lets it send them. Without it a scraper
/// that stopped reading would also fill a send buffer, which grows to megabytes.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 256 * 1024;

/// A server that listens and does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    workers: Workers,
    address: SocketAddr,
    admission: Arc<Admission>,
    shared: Arc<Shared>,
    /// Listeners that take the place of the one before.
    listeners: mpsc::UnboundedReceiver<Arc<TcpListener>>,
    handle: Handle,
    stage: watch::Receiver<Stage>,
}

/// What all connections share.
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
    /// Listens on the configured address. Connections wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(config: &Config, assets: Assets) -> Result<Self, StartError> {
        let (listener, address) = listen(config.listen)?;
        let listener = Arc::new(listener);
        let listening =
            Listening::Where { told: config.listen, listener: Arc::downgrade(&listener) };
        Self::new(config, assets, (listener, address), listening)
    }

    /// The same on a socket that listens already, whatever address is configured.
    ///
    /// # Errors
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
        let workers = Workers::start(config.worker_threads).map_err(StartError::Workers)?;
        let (stage, reached) = watch::channel(Stage::Serving);
        let trigger = Trigger::default();
        let lasting = Lasting {
            address,
            metrics: Arc::default(),
            answers: Arc::default(),
            office: Arc::new(Office::open(trigger.clone())),
            trigger,
            stage: reached.clone(),
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
                stage,
                hurry: Arc::default(),
            },
            stage: reached,
            workers,
        })
    }

    /// The address it listens on at first, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What changes it and shuts it down.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts and serves until [`Handle::shut_down`]; then finishes the scrapes in flight for at
    /// most `drain-timeout`, aborts what is left, and returns.
    pub async fn run(self) {
        let Self { mut listener, workers, admission, shared, mut listeners, handle, stage, .. } =
            self;
        let metrics = shared.metrics();
        // With TLS it counts as it does when the client closes it a moment later.
        let ended = || match shared.state().tls() {
            Some(_) => metrics.handshake(Handshake::ConnectionLost),
            None => metrics.not_accepted(AcceptError::ConnectionLost),
        };
        let start = |stream: net::TcpStream, address: SocketAddr, ticket| {
            let shared = Arc::clone(&shared);
            // Here, because the workers do not start them in the order of their arrival, and of an
            // address the oldest is the first to give way.
            let state = shared.state();
            let permit = state.tls().is_some().then(|| admission.handshake(address.ip()));
            workers.spawn(move || async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(stream, address, ticket, permit, state, shared).await,
                    Err(error) => {
                        tracing::error!(target: ANY_PEER, %error, "cannot serve a connection");
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
                    stage.clone(),
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
        // A reload may have sent one that nobody will accept on.
        listeners.close();
        while listeners.try_recv().is_ok() {}
        shared.connections.reach(Stage::Draining);
        let drain_timeout = shared.state().limits.drain_timeout.as_duration();

        let in_flight = admission.open_connections();
        tracing::info!(connections = in_flight, "draining");
        let drained = tokio::select! {
            drained = timeout(drain_timeout, admission.all_closed()) => drained.is_ok(),
            () = handle.hurry.notified() => false,
        };
        if !drained {
            let left = admission.open_connections();
            tracing::warn!(connections = left, "drain ended: aborting what is left");
            handle.stage.send_replace(Stage::Ended);
            shared.connections.reach(Stage::Ended);
            admission.all_closed().await;
        }
        tracing::info!("stopped");
    }
}

/// Ends connections when their client certificates do, or a CA or a revocation list by which they
/// were let in: by the wall clock, also when it is set.
///
/// Certificates are valid for whole seconds, so it looks when one has begun (RFC 5280 §4.1.2.5).
async fn dismiss_expired(shared: &Shared) -> Infallible {
    loop {
        let now = wall_clock();
        let state = shared.state();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for due in shared.connections.due(now, state.last_end_before(seconds)) {
            if let Err(why) = state.judge(&due.peer, &due.wire) {
                shared.connections.drain(&due, &why);
            }
            // With a list all of its clients are due, and others want to be accepted meanwhile.
            yield_now().await;
        }
        drop(state);
        sleep(to_next_second(SystemTime::now())).await;
    }
}

/// How long until the wall clock shows another second.
fn to_next_second(now: SystemTime) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since_1970.subsec_nanos().into())
}

/// One connection from accept to close.
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
        if state.welcomes(&peer, &Wire::Plain) {
            serve_requests(transport, peer, Wire::Plain, state, &shared).await;
        } else {
            metrics.not_accepted(AcceptError::PlainHttp);
            tracing::warn!(
                target: ANY_PEER,
                peer = %address,
                "connection closed: plain HTTP is for loopback addresses only"
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
                "TLS handshake ended"
            );
        }
    }
}

async fn drain_begins(state: &State) {
    Stage::after(&mut state.service.stage.clone(), false).await;
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
    // A reload is over before all that are not welcome any more know it: what comes in plain text
    // until then must not be answered as if it had come by TLS.
    let plain = match &wire {
        Wire::Plain => Some(Arc::clone(&state.service)),
        Wire::Tls { .. } => None,
    };
    let (place, stage) = shared.connections.add(Arc::clone(&peer), wire, Arc::clone(&activity));
    // From here on a reload finds the connection; one since its handshake did not.
    if !Arc::ptr_eq(&state, &shared.state()) {
        let state = shared.state();
        place.dismiss_unless(|peer, wire| state.welcomes(peer, wire));
    }
    drop(state);
    let client = Arc::clone(&peer);
    let service = || match (shared.state(), &plain) {
        (now, Some(before)) if !now.welcomes(&client, &Wire::Plain) => Arc::clone(before),
        (now, _) => Arc::clone(&now.service),
    };
    let stream = Downstream::new(stream, Arc::clone(&activity), S::peer_has_ended);
    answer_requests(stream, peer, activity, stage, service).await;
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
    let stage = service.stage.clone();
    let stream = Downstream::new(stream, Arc::clone(&activity), |_| false);
    answer_requests(stream, Arc::new(peer), activity, stage, || Arc::clone(service)).await;
}

/// Each request goes by the `service` of its time.
async fn answer_requests<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Downstream<S>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    stage: watch::Receiver<Stage>,
    service: impl Fn() -> Arc<Service> + Unpin,
) {
    let address = peer.address;
    let closed = drive(stream, Arc::clone(&activity), stage, |request| {
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
        // A scrape that ends by its deadline, a stall or a shutdown has its own record.
        Closed::By(Ending::Header) => tracing::info!(
            target: ANY_PEER,
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

/// The two kinds of stream there are from a scraper.
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
