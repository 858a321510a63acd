//! Lets the kernel gather the bytes that a fast exporter writes, so that neither side is woken for
//! every few kilobytes.
//!
//! A reader that keeps up with an exporter is woken by each write of the exporter, and each wake-up
//! slows the exporter's `write`. The socket therefore becomes readable only with [`GATHER`] bytes
//! (`SO_RCVLOWAT`, socket(7)), at the end of the stream, or after [`HOLD`]. This starts when a body
//! has proved to be large and the reader has found the socket empty twice within [`HOLD`]. The
//! number doubles once if the exporter needs less than half of [`HOLD`].
//! The first bytes, small bodies and slow exporters never wait.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Size of the first read buffer in bytes, including the response head. A read uses the rest of the
/// buffer.
pub const READ_SIZE: usize = 64 * 1024;

/// Number of bytes that justify a wake-up at first. With half of it, a GB of small chunks costs a
/// tenth more.
const GATHER: usize = 2 * READ_SIZE;

/// The same from an exporter that needs less than half of [`HOLD`] for it.
const GATHER_FROM_FAST: usize = 2 * GATHER;

/// The longest time for which bytes wait for more. The runtime's clock adds up to its tick of 1 ms.
const HOLD: Duration = Duration::from_millis(1);

/// Number of bytes from which a body counts as large.
const LARGE: usize = READ_SIZE;

/// Decides, each time the exporter's socket is empty, how many bytes must arrive before the next
/// wake-up.
#[derive(Debug, Default)]
pub struct ReadCoalescing {
    /// Number of bytes read so far.
    received: usize,
    /// When the socket was last found empty.
    empty_since: Option<Instant>,
    /// Ends the wait if too few bytes arrive. The timer is not moved at each read. Instead, it
    /// checks `empty_since` when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// The number of bytes with which the socket becomes readable, if it is more than one.
    gathers: Option<usize>,
    /// Whether nothing was read since the socket was last found empty.
    awaits: bool,
}

impl ReadCoalescing {
    /// Notes that `count` bytes were read.
    pub fn received(&mut self, count: usize) {
        self.received = self.received.saturating_add(count);
        self.awaits = false;
    }

    /// Notes that the socket is empty. The task of `cx` is woken when the socket is readable again.
    pub fn empty(&mut self, socket: &TcpStream, cx: &mut Context<'_>) {
        if self.received < LARGE {
            return;
        }
        if !self.awaits {
            self.awaits = true;
            let now = Instant::now();
            let took = self.empty_since.replace(now).map(|before| now - before);
            if let Some(next) = self.next_step(took) {
                self.gathers = set_low_water(socket, next).then_some(next);
            }
        }
        let (Some(_), Some(since)) = (self.gathers, self.empty_since) else {
            return;
        };
        let until = since + HOLD;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= until {
                // Wakes the task if the socket has any bytes.
                set_low_water(socket, 1);
                self.gathers = None;
                return;
            }
            timer.as_mut().reset(until);
        }
    }

    /// How many bytes to gather next, if that changes. The last ones took this long.
    fn next_step(&self, took: Option<Duration>) -> Option<usize> {
        match (self.gathers, took?) {
            (None, took) => (took <= HOLD).then_some(GATHER),
            (Some(GATHER), took) => (took <= HOLD / 2).then_some(GATHER_FROM_FAST),
            (Some(_), _) => None,
        }
    }
}

#[cfg(target_os = "linux")]
fn set_low_water(socket: &TcpStream, bytes: usize) -> bool {
    use nix::sys::socket::{setsockopt, sockopt::SetUsize};

    #[derive(Clone, Copy)]
    struct ReceiveLowWater;
    nix::setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, SetUsize);
    setsockopt(socket, ReceiveLowWater, &bytes).is_ok()
}

/// On other systems, poll(2) ignores the option or nobody has measured it.
#[cfg(not(target_os = "linux"))]
fn set_low_water(_: &TcpStream, _: usize) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_many_bytes_are_gathered_from_a_fast_exporter() {
        let mut coalescing = ReadCoalescing::default();
        let (fast, slow) = (HOLD / 2, HOLD);
        for (gathers, took, next) in [
            (None, None, None),
            (None, Some(HOLD * 2), None),
            (None, Some(slow), Some(GATHER)),
            (Some(GATHER), Some(slow), None),
            (Some(GATHER), Some(fast), Some(GATHER_FROM_FAST)),
            (Some(GATHER_FROM_FAST), Some(fast), None),
            (Some(GATHER_FROM_FAST), Some(slow), None),
        ] {
            coalescing.gathers = gathers;
            assert_eq!(coalescing.next_step(took), next, "{gathers:?} {took:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[derive(Clone, Copy)]
    struct ReceiveLowWater;

    #[cfg(target_os = "linux")]
    nix::getsockopt_impl!(
        ReceiveLowWater,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        nix::sys::socket::sockopt::GetStruct<i32>
    );

    /// The number of bytes with which the socket becomes readable.
    #[cfg(target_os = "linux")]
    fn low_water(socket: &TcpStream) -> usize {
        let bytes = nix::sys::socket::getsockopt(socket, ReceiveLowWater).expect("an option");
        usize::try_from(bytes).expect("not negative")
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_large_body_wait_for_more_for_at_most_the_time_to_hold_them() {
        use std::{
            net::TcpListener,
            task::{Context, Waker},
        };

        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let socket = TcpStream::connect(address).await.expect("connected");
        let mut cx = Context::from_waker(Waker::noop());
        let mut coalescing = ReadCoalescing::default();

        coalescing.received(LARGE - 1);
        for _ in 0..2 {
            coalescing.empty(&socket, &mut cx);
            coalescing.received(0);
        }
        assert_eq!(low_water(&socket), 1, "the body is small");

        coalescing.received(1);
        coalescing.empty(&socket, &mut cx);
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), 1, "nothing was read in between");
        coalescing.received(1);
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), GATHER);
        coalescing.received(1);
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), GATHER_FROM_FAST);

        tokio::time::advance(HOLD / 2).await;
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), GATHER_FROM_FAST, "there is time left");
        // The clock of the runtime has a resolution of 1 ms.
        tokio::time::advance(2 * HOLD).await;
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), 1, "the time is over");

        coalescing.received(1);
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), 1, "the exporter was slow");
        coalescing.received(1);
        coalescing.empty(&socket, &mut cx);
        assert_eq!(low_water(&socket), GATHER, "the exporter is fast again");
    }
}
