//! How far away a scraper is, for `compression = auto`.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

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
        match kernels_smallest(stream) {
            Some(smallest) => smallest >= FAR,
            None => self.smallest.is_some_and(|smallest| smallest >= FAR_WITH_HANDSHAKE),
        }
    }
}

/// The smallest round trip that the kernel has measured: `tcpi_min_rtt` (tcp(7), `TCP_INFO`), since
/// Linux 4.6. `None` if the kernel does not tell.
#[cfg(target_os = "linux")]
fn kernels_smallest(stream: &TcpStream) -> Option<Duration> {
    use std::sync::LazyLock;

    use nix::sys::{
        socket::{GetSockOpt as _, sockopt::GetStruct},
        utsname::uname,
    };

    /// Number of bytes of `struct tcp_info` up to the end of `tcpi_min_rtt`.
    const LENGTH: usize = 152;
    /// The beginning of `struct tcp_info`, in words of four bytes.
    type Info = [u32; LENGTH / 4];

    #[derive(Clone, Copy)]
    struct TcpInfo;
    nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Info, GetStruct<Info>);

    // An older kernel would return fewer bytes, and nix panics then. gVisor says that it is 4.4.
    static IS_RECENT: LazyLock<bool> = LazyLock::new(|| {
        let release = uname().ok().and_then(|name| name.release().to_str().map(str::to_owned));
        release.is_some_and(|release| version(&release) >= Some((4, 6)))
    });
    if !*IS_RECENT {
        return None;
    }
    let info = TcpInfo.get(stream).ok()?;
    // In microseconds. Before the first measurement, all bits are set.
    let smallest = *info.last()?;
    (smallest != u32::MAX).then(|| Duration::from_micros(smallest.into()))
}

/// Other systems measure it too, but nix has no safe way to ask.
#[cfg(not(target_os = "linux"))]
fn kernels_smallest(_: &TcpStream) -> Option<Duration> {
    None
}

/// The first two numbers of a kernel release, such as `6.1.0-18-amd64`.
#[cfg(any(target_os = "linux", test))]
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_release_of_a_kernel_begins_with_its_version() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("4.6", Some((4, 6))),
            ("4.4.0", Some((4, 4))),
            ("10.0-rc1", Some((10, 0))),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release:?}");
        }
        assert!(version("4.6") >= Some((4, 6)) && version("5") < Some((4, 6)));
    }

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
        let smallest = kernels_smallest(&stream).expect("a kernel that is recent enough");
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
}
