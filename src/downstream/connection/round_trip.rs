//! How far away a scraper is, for `compression = auto`.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::downstream::tcp_info::TcpInfo;

/// The smallest round trip, as the kernel measures it, from which a scraper counts as far away.
/// Within a data center a round trip takes 0.1 to 0.5 ms.
const FAR: Duration = Duration::from_millis(1);

/// The same limit for a round trip of the TLS handshake, which includes the time that the scraper
/// needs to check certificates and to sign.
const FAR_WITH_HANDSHAKE: Duration = Duration::from_millis(3);

/// Measures the round trips of the bytes that pass, until the scraper is known to be far or near.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// When bytes were sent last, if none has arrived since.
    sent: Option<Instant>,
    smallest: Option<Duration>,
}

impl RoundTrip {
    /// Bytes were sent, or the socket did not accept them yet.
    pub(super) fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// Bytes have arrived.
    pub(super) fn received(&mut self) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        let took = sent.elapsed();
        self.smallest = Some(self.smallest.map_or(took, |smallest| smallest.min(took)));
    }

    /// Whether the peer of `stream` is far away. Without any measurement it is near.
    pub(super) fn is_far(&self, stream: &TcpStream) -> bool {
        match TcpInfo::of(stream).and_then(|info| info.smallest_round_trip) {
            Some(smallest) => smallest >= FAR,
            None => self.smallest.is_some_and(|smallest| smallest >= FAR_WITH_HANDSHAKE),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::net::TcpListener;

    use super::*;

    /// A socket of a connection over loopback, which is near.
    async fn near() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_scraper_on_loopback_is_near_however_long_its_handshake_takes() {
        let (stream, _peer) = near().await;
        let info = TcpInfo::of(&stream).expect("a kernel that is recent enough");
        let smallest = info.smallest_round_trip.expect("a measurement");
        assert!(smallest < FAR, "{smallest:?}");
        let slow = RoundTrip { sent: None, smallest: Some(Duration::from_secs(1)) };
        assert!(!slow.is_far(&stream));
    }

    #[test]
    fn a_round_trip_is_from_the_last_bytes_sent_to_the_next_ones_received() {
        let mut clock = RoundTrip::default();
        clock.received();
        assert_eq!(clock.smallest, None, "nothing was sent");
        clock.sent();
        clock.received();
        let first = clock.smallest.expect("a measurement");
        clock.received();
        assert_eq!(clock.smallest, Some(first), "nothing was sent since");
        clock.sent = Instant::now().checked_sub(Duration::from_secs(100));
        clock.received();
        assert_eq!(clock.smallest, Some(first), "only the smallest counts");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn without_a_measurement_of_the_kernel_the_handshake_tells_how_far_a_scraper_is() {
        let (stream, _peer) = crate::downstream::tcp_info::fixture::unknown();
        let millis = Duration::from_millis;
        for (smallest, is_far) in [
            (None, false),
            (Some(millis(2)), false),
            (Some(millis(3)), true),
            (Some(millis(9)), true),
        ] {
            assert_eq!(RoundTrip { sent: None, smallest }.is_far(&stream), is_far, "{smallest:?}");
        }
    }
}
