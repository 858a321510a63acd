//! One accepted connection, from accept to close.

use std::{
    net::{self, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    accept::{Admission, Eviction, HandshakePermit, Ticket},
    connection::{Downstream, Transport},
    context::SessionContext,
    handshake::handshake,
    requests::answer_requests,
    security::ConnectionSecurity,
    serving::ServingState,
    socket::set_options,
    state::{ConnectionState, Timeouts},
};
use crate::{
    common::{
        error::Chain,
        peer::{ANY_PEER, Host, Peer},
        shutdown::ShutdownPhase,
    },
    config::Limits,
    http::metrics::{AcceptError, Handshake},
    tls::wall_clock,
};

/// One connection that was accepted and is not served yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    context: Arc<SessionContext>,
    stream: net::TcpStream,
    address: SocketAddr,
    ticket: Ticket,
    /// The state at the time of the accept.
    state: Arc<ServingState>,
    /// `None` for plain HTTP.
    handshake: Option<(HandshakePermit, Eviction)>,
}

impl Session {
    /// Counts the handshake of a connection.
    ///
    /// The acceptor must call this, and not a worker: workers do not start connections in the order
    /// of their arrival, and an address loses its oldest handshake first.
    #[must_use]
    pub fn begin(
        context: Arc<SessionContext>,
        admission: &Arc<Admission>,
        stream: net::TcpStream,
        address: SocketAddr,
        ticket: Ticket,
    ) -> Self {
        let state = context.state();
        let handshake = state.tls().is_some().then(|| admission.handshake(address.ip()));
        Self { context, stream, address, ticket, state, handshake }
    }

    /// Serves the connection until it ends. The socket belongs to the runtime that polls this
    /// future first.
    ///
    /// Dropping the future closes the connection at once. A scrape in progress is aborted.
    pub async fn serve(self) {
        let Self { context, stream, address, ticket: _ticket, state, handshake: counted } = self;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(target: ANY_PEER, %error, "cannot serve connection");
                return;
            }
        };
        let metrics = &state.service.metrics;
        let _counted = metrics.connection();
        if let Err(error) = set_options(&stream, state.limits.stall_timeout.as_duration()) {
            tracing::debug!(target: ANY_PEER, peer = %address, %error, "connection lost");
            return;
        }
        let transport = Transport::new(stream);
        let (Some(tls), Some((permit, eviction))) = (state.tls(), counted) else {
            let peer = Peer { address, identity: None };
            if state.authorizes(&peer, &ConnectionSecurity::Plain) {
                serve_requests(transport, peer, ConnectionSecurity::Plain, state, &context).await;
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
        let limiter = (&context.handshakes, Host::of(address.ip()));
        // Boxed, because the task would keep room for the handshake, 12 KiB, until the connection
        // ends.
        let shaking = Box::pin(handshake(transport, &tls.config, limit, limiter));
        let shaken = tokio::select! {
            shaken = shaking => {
                shaken.map_err(|error| {
                    (error.result(), Chain(&error).to_string(), error.refused().cloned())
                })
            }
            evicted = eviction.wait() => Err((Handshake::Evicted, evicted.to_string(), None)),
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
                let presented = chain.map(Iterator::collect).unwrap_or_default();
                let security = ConnectionSecurity::Tls { presented, before };
                serve_requests(stream, Peer { address, identity }, security, state, &context).await;
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
}

/// Counts a connection that its client closed before it was served.
pub fn count_ended(state: &ServingState) {
    let metrics = &state.service.metrics;
    // With TLS, count the connection like one that the client closes a moment later, during the
    // handshake.
    match state.tls() {
        Some(_) => metrics.handshake(Handshake::ConnectionLost),
        None => metrics.not_accepted(AcceptError::ConnectionLost),
    }
}

async fn drain_begins(state: &ServingState) {
    ShutdownPhase::Serving.next(&mut state.service.shutdown.clone()).await;
}

fn new_connection(limits: &Limits) -> Arc<ConnectionState> {
    Arc::new(ConnectionState::new(Timeouts {
        header: limits.header_timeout.as_duration(),
        idle: limits.idle_timeout.as_duration(),
        stall: limits.stall_timeout.as_duration(),
    }))
}

async fn serve_requests<S: Scraper>(
    mut stream: S,
    peer: Peer,
    security: ConnectionSecurity,
    state: Arc<ServingState>,
    context: &SessionContext,
) {
    let connection = new_connection(&state.limits);
    stream.transport().report_to(Arc::clone(&connection));
    let peer = Arc::new(peer);
    // A reload replaces the state before it closes the connections that it excludes. Until then, a
    // request over plain HTTP must not be answered like one over TLS.
    let plain = match &security {
        ConnectionSecurity::Plain => Some(Arc::clone(&state.service)),
        ConnectionSecurity::Tls { .. } => None,
    };
    let (registration, shutdown) =
        context.registry.add(Arc::clone(&peer), security, Arc::clone(&connection));
    // From here on, a reload finds the connection. A reload since the handshake did not find it.
    if !Arc::ptr_eq(&state, &context.state()) {
        let state = context.state();
        registration.drain_unless(|peer, security| state.authorizes(peer, security));
    }
    drop(state);
    let client = Arc::clone(&peer);
    let service = || match (context.state(), &plain) {
        (now, Some(before)) if !now.authorizes(&client, &ConnectionSecurity::Plain) => {
            Arc::clone(before)
        }
        (now, _) => Arc::clone(&now.service),
    };
    let stream = Downstream::new(stream, Arc::clone(&connection), S::peer_has_ended);
    answer_requests(stream, peer, connection, shutdown, service).await;
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

impl Scraper for Box<TlsStream<Transport>> {
    fn transport(&mut self) -> &mut Transport {
        self.as_mut().get_mut().0
    }

    fn peer_has_ended(&self) -> bool {
        self.get_ref().0.peer_has_ended()
    }
}

#[cfg(test)]
mod tests;
