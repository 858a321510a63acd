//! Closes a stream so that the peer gets the last bytes that were sent on it.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Limits for what is read from a peer after our side of the stream is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// For the shutdown and for reading together.
    pub(super) time: Duration,
    /// In bytes. With 0 nothing is read, and only the shutdown of the stream is waited for.
    pub(super) bytes: usize,
}

impl Linger {
    /// Closes `stream` in order: with close_notify if it is encrypted, and with FIN. Then discards
    /// what the peer still sends, until the peer closes the stream too or a limit is reached.
    ///
    /// A socket that is closed with unread bytes is reset, and the reset can overtake the last bytes
    /// that were sent (RFC 9112 §9.6).
    pub(super) async fn close<S>(self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let reading = async {
            // Fails if the stream was shut down before, or if the peer is gone.
            let _ = stream.shutdown().await;
            let mut left = self.bytes;
            if left == 0 {
                return;
            }
            // On the heap. Otherwise the task would reserve these 4 KiB for the whole life of the
            // connection.
            let mut waste = vec![0; 4096];
            while left > 0 {
                match stream.read(&mut waste).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
        };
        // The stream ends in any case, so the result does not matter.
        let _ = timeout(self.time, reading).await;
    }
}
