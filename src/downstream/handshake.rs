//! A TLS handshake with its own deadline: the one place that turns a TCP stream into a TLS stream.

mod limiter;

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use self::limiter::HandshakeLimiter;
use crate::{
    common::{
        error::certificate::{RefusedCertificate, watch},
        peer::{ClientIdentity, Host},
    },
    downstream::linger::Linger,
    http::metrics,
    scrape::LARGEST_BATCH,
};

/// How many bytes rustls encrypts before they must be sent. The largest batch fits together with its
/// chunk framing, so each batch goes out in one system call. The default of 64 KiB would need several
/// calls.
const SEND_BUFFER: usize = LARGEST_BATCH + 16 * 1024;

/// After an alert to a refused client. In TLS 1.3 a client finishes before the server verifies its
/// certificate, and may already have sent a request.
const LINGER: Linger = Linger { time: Duration::from_millis(500), bytes: 64 * 1024 };

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client violated the protocol or closed the connection. The alert was sent.
    #[error("TLS handshake failed")]
    Failed(#[source] io::Error),
    /// The client's certificate is not trusted. The alert was sent.
    #[error("client certificate refused: {}", .0.fault)]
    Refused(RefusedCertificate),
    /// The handshake did not finish in time. Carries the limit. No alert was sent.
    #[error("TLS handshake took longer than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

impl HandshakeError {
    /// The result under which the failure is counted.
    #[must_use]
    pub fn result(&self) -> metrics::Handshake {
        let error = match self {
            Self::Failed(error) => error,
            Self::Refused(_) => return metrics::Handshake::BadCertificate,
            Self::TimedOut(_) => return metrics::Handshake::TimedOut,
        };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            None => metrics::Handshake::ConnectionLost,
            Some(rustls::Error::NoCertificatesPresented) => metrics::Handshake::NoCertificate,
            Some(rustls::Error::InvalidCertificate(_)) => metrics::Handshake::BadCertificate,
            Some(rustls::Error::AlertReceived(_)) => metrics::Handshake::RefusedByClient,
            Some(_) => metrics::Handshake::Protocol,
        }
    }

    /// The refused certificate, if that is why the handshake failed.
    #[must_use]
    pub fn refused(&self) -> Option<&RefusedCertificate> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Failed(_) | Self::TimedOut(_) => None,
        }
    }
}

/// Performs a handshake with `host` within `limit`, which is counted from the call. The server's
/// own work waits for its turn in `limiter`.
///
/// The stream is boxed because each async function that it passes through would keep room for it,
/// 1.3 KiB, until the connection ends.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// See [`HandshakeError`]. If the handshake failed, the alert has been sent by then.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &Arc<ServerConfig>,
    limit: Duration,
    (limiter, host): (&HandshakeLimiter, Host),
) -> Result<(Box<TlsStream<S>>, Option<ClientIdentity>), HandshakeError> {
    let accept = TlsAcceptor::from(Arc::clone(config))
        .accept_with(stream, |connection| connection.set_buffer_limit(Some(SEND_BUFFER)))
        .into_fallible();
    let (shaken, refused) = watch(timeout(limit, limiter.run(host, accept))).await;
    match shaken {
        Err(_) => Err(HandshakeError::TimedOut(limit)),
        Ok(Err((error, stream))) => {
            LINGER.close(stream).await;
            Err(refused.map_or(HandshakeError::Failed(error), HandshakeError::Refused))
        }
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let identity =
                certificates.and_then(|chain| chain.first()).and_then(ClientIdentity::of);
            Ok((Box::new(stream), identity))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt as _, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_up_to_64_kib_are_read_for_half_a_second() {
        let (stream, mut client) = duplex(4096);
        let sending = async {
            let mut sent = 0;
            while client.write_all(&[0; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        };
        let ((), sent) = tokio::join!(LINGER.close(stream), sending);
        assert_eq!(sent, 64 * 1024);
        for (leaves_after, over_after) in [(200, 200), (1000, 500)] {
            let (stream, client) = duplex(4096);
            let begun = Instant::now();
            let leaving = async {
                sleep(Duration::from_millis(leaves_after)).await;
                drop(client);
            };
            let reading = async {
                LINGER.close(stream).await;
                begun.elapsed().as_millis()
            };
            assert_eq!(tokio::join!(reading, leaving).0, over_after);
        }
    }
}
