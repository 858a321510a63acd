//! What the kernel knows about a connection (`TCP_INFO`, tcp(7)).

use std::time::Duration;

use tokio::net::TcpStream;

/// The part that the proxy uses. The kernel has all of it since Linux 4.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// Number of bytes that the socket has accepted and not sent yet (`tcpi_notsent_bytes`).
    pub(super) not_sent: usize,
    /// The smallest round-trip time so far, if there is a measurement (`tcpi_min_rtt`).
    pub(super) smallest_round_trip: Option<Duration>,
}

impl TcpInfo {
    /// Asks the kernel about `stream`. `None` if the kernel is too old or another one.
    #[cfg(target_os = "linux")]
    pub(super) fn of(stream: &TcpStream) -> Option<Self> {
        use std::sync::LazyLock;

        use nix::sys::{
            socket::{GetSockOpt as _, sockopt::GetStruct},
            utsname::uname,
        };

        /// The beginning of `struct tcp_info`, in words of four bytes, up to `tcpi_min_rtt`.
        type Words = [u32; 38];

        #[derive(Clone, Copy)]
        struct Option;
        nix::getsockopt_impl!(Option, libc::IPPROTO_TCP, libc::TCP_INFO, Words, GetStruct<Words>);

        // An older kernel would return fewer bytes, and nix panics then. gVisor says that it is 4.4.
        static IS_RECENT: LazyLock<bool> = LazyLock::new(|| {
            let name = uname().ok();
            let release = name.as_ref().and_then(|name| name.release().to_str());
            release.and_then(version) >= Some((4, 6))
        });
        if !*IS_RECENT {
            return None;
        }
        let [.., not_sent, smallest_round_trip] = Option.get(stream).ok()?;
        Some(Self {
            not_sent: usize::try_from(not_sent).unwrap_or(usize::MAX),
            // In microseconds. All bits are set before the first measurement.
            smallest_round_trip: (smallest_round_trip != u32::MAX)
                .then(|| Duration::from_micros(smallest_round_trip.into())),
        })
    }

    /// Other systems have similar options, but nix has no safe way to read them.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_: &TcpStream) -> Option<Self> {
        None
    }
}

/// The first two numbers of a kernel release, such as `6.1.0-18-amd64`.
#[cfg(any(target_os = "linux", test))]
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A connection about which the kernel knows nothing.
#[cfg(test)]
#[cfg(unix)]
pub(super) mod fixture {
    use std::{
        net,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use tokio::net::TcpStream;

    /// A socket without `TCP_INFO`, because it is of another family, and its peer.
    pub(in crate::downstream) fn unknown() -> (TcpStream, UnixStream) {
        let (stream, peer) = UnixStream::pair().expect("two sockets");
        stream.set_nonblocking(true).expect("a socket that does not block");
        let stream = net::TcpStream::from(OwnedFd::from(stream));
        (TcpStream::from_std(stream).expect("a runtime"), peer)
    }
}

#[cfg(test)]
mod tests {
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

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_is_known_about_a_socket_that_is_not_of_tcp() {
        let (stream, _peer) = fixture::unknown();
        assert_eq!(TcpInfo::of(&stream), None);
    }
}
