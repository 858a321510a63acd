//! The requests of one connection: each is answered with the state at its arrival. Logs why the
//! connection ended.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    connection::{Closed, Downstream, drive},
    state::{ConnectionState, Ending},
};
use crate::{
    common::{
        error::Chain,
        peer::{ANY_PEER, Peer},
        shutdown::ShutdownPhase,
    },
    http::{handler::handle, state::AppState},
};

/// Answers the requests that arrive on `stream` until the connection ends, and logs why it ended.
/// `stream` can be any stream. For a socket, use a [`Transport`](super::connection::Transport), which
/// reports to `state` what the socket accepts.
///
/// Dropping the future closes the connection at once. A scrape in progress is aborted.
pub async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    state: Arc<ConnectionState>,
    app: &Arc<AppState>,
) {
    let shutdown = app.shutdown.clone();
    let stream = Downstream::new(stream, Arc::clone(&state), |_| false);
    answer_requests(stream, Arc::new(peer), state, shutdown, || Arc::clone(app)).await;
}

/// Each request uses the `app` at the time of its arrival.
pub(super) async fn answer_requests<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Downstream<S>,
    peer: Arc<Peer>,
    state: Arc<ConnectionState>,
    shutdown: watch::Receiver<ShutdownPhase>,
    app: impl Fn() -> Arc<AppState> + Unpin,
) {
    let address = peer.address;
    let closed = drive(stream, Arc::clone(&state), shutdown, |request| {
        let (app, peer) = (app(), Arc::clone(&peer));
        let state = Arc::clone(&state);
        Box::pin(async move { Ok(handle(app, peer, state, request).await) })
    })
    .await;
    if let Some(reason) = closed.unread() {
        app().metrics.unread(reason);
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
