//! A TLS handshake under its own deadline.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::turns::Turns;
use crate::{
    error::certificate::{RefusedCertificate, watch},
    metrics,
    peer::{ClientIdentity, Host},
    relay::BATCH,
};

/// Bytes that rustls encrypts before it wants them sent. One batch fits with its chunk framing, so
/// that each goes out in one system call; the default of 64 KiB would end each batch in a runt
/// record and a second call.
const SEND_BUFFER: usize = BATCH + 16 * 1024;

/// How long a refused client has to read the alert.
const LINGER: Duration = Duration::from_millis(500);

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client broke a rule; it has been sent the alert.
    #[error("TLS handshake failed")]
    Failed(#[source] io::Error),
    /// The client's certificate is not trusted; it has been sent the alert.
    #[error("client certificate refused: {}", .0.fault)]
    Refused(RefusedCertificate),
    /// Not over in time. Nothing was sent.
    #[error("TLS handshake took longer than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

impl HandshakeError {
    /// What it counts as.
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

    /// The certificate that was refused, if it was for that.
    #[must_use]
    pub fn refused(&self) -> Option<&RefusedCertificate> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Failed(_) | Self::TimedOut(_) => None,
        }
    }
}

/// Shakes hands with `host` within `limit`, counted from the call; the server's own work is done in
/// `turns`.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// See [`HandshakeError`]. A failed handshake has ended with an alert by then.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &Arc<ServerConfig>,
    limit: Duration,
    (turns, host): (&Turns, Host),
) -> Result<(TlsStream<S>, Option<ClientIdentity>), HandshakeError> {
    let accept = TlsAcceptor::from(Arc::clone(config))
        .accept_with(stream, |connection| connection.set_buffer_limit(Some(SEND_BUFFER)))
        .into_fallible();
    let (shaken, refused) = watch(timeout(limit, turns.take(host, accept))).await;
    match shaken {
        Err(_) => Err(HandshakeError::TimedOut(limit)),
        Ok(Err((error, stream))) => {
            let_the_alert_be_read(stream).await;
            Err(refused.map_or(HandshakeError::Failed(error), HandshakeError::Refused))
        }
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let identity =
                certificates.and_then(|chain| chain.first()).and_then(ClientIdentity::of);
            Ok((stream, identity))
        }
    }
}

/// In TLS 1.3 the client is done before its certificate is judged and may have sent its request:
/// closing with that unread would reset the connection, and the reset can overtake the alert.
async fn let_the_alert_be_read<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let read_on = async {
        stream.shutdown().await?;
        let mut waste = [0; 4096];
        for _ in 0..16 {
            if stream.read(&mut waste).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // Whatever happens now, the connection is over.
    let _ = timeout(LINGER, read_on).await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_is_read_from_for_a_while_and_up_to_64_kib() {
        let (stream, mut client) = duplex(4096);
        let sending = async {
            let mut sent = 0;
            while client.write_all(&[0; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        };
        let ((), sent) = tokio::join!(let_the_alert_be_read(stream), sending);
        assert_eq!(sent, 64 * 1024);
        for (leaves_after, over_after) in [(200, 200), (1000, 500)] {
            let (stream, client) = duplex(4096);
            let begun = Instant::now();
            let leaving = async {
                sleep(Duration::from_millis(leaves_after)).await;
                drop(client);
            };
            let reading = async {
                let_the_alert_be_read(stream).await;
                begun.elapsed().as_millis()
            };
            assert_eq!(tokio::join!(reading, leaving).0, over_after);
        }
    }
}
