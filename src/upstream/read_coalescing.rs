//! Lets the kernel gather the bytes that a fast exporter writes, so that neither side is woken for
//! every few kilobytes.
//!
//! A reader that keeps up with an exporter is woken by each write of the exporter, and each wake-up
//! slows the exporter's `write`. The socket therefore becomes readable only with [`GATHER`] bytes
//! (`SO_RCVLOWAT`, socket(7)), at the end of the stream, or after [`HOLD`]. This starts when a body
//! has proved to be large and the reader has found the socket empty twice within [`HOLD`]. The
//! first bytes, small bodies and slow exporters never wait.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Size of a read buffer in bytes, including the response head. A read uses the rest of the buffer.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// Number of bytes that justify a wake-up. With half of it, a GB of small chunks costs a tenth
/// more.
const GATHER: usize = 2 * READ_SIZE;

/// The longest time for which bytes wait for more. The runtime's clock adds up to its tick of 1 ms.
const HOLD: Duration = Duration::from_millis(1);

/// Number of bytes from which a body counts as large.
const LARGE: usize = READ_SIZE;

/// Decides, each time the exporter's socket is empty, how many bytes must arrive before the next
/// wake-up.
#[derive(Debug, Default)]
pub(super) struct ReadCoalescing {
    /// Number of bytes read so far.
    received: usize,
    /// When the socket was last found empty.
    empty_since: Option<Instant>,
    /// Ends the wait if too few bytes arrive. The timer is not moved at each read. Instead, it
    /// checks `empty_since` when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the socket becomes readable only with [`GATHER`] bytes.
    gathers: bool,
    /// Whether nothing was read since the socket was last found empty.
    awaits: bool,
}

impl ReadCoalescing {
    /// Notes that `count` bytes were read.
    pub(super) fn received(&mut self, count: usize) {
        self.received = self.received.saturating_add(count);
        self.awaits = false;
    }

    /// Notes that the socket is empty. The task of `cx` is woken when the socket is readable again.
    pub(super) fn empty(&mut self, socket: &TcpStream, cx: &mut Context<'_>) {
        if self.received < LARGE {
            return;
        }
        if !self.awaits {
            self.awaits = true;
            let now = Instant::now();
            let before = self.empty_since.replace(now);
            if !self.gathers && before.is_some_and(|before| now - before <= HOLD) {
                self.gathers = set_low_water(socket, GATHER);
            }
        }
        let (true, Some(since)) = (self.gathers, self.empty_since) else {
            return;
        };
        let until = since + HOLD;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= until {
                // Wakes the task if the socket has any bytes.
                set_low_water(socket, 1);
                self.gathers = false;
                return;
            }
            timer.as_mut().reset(until);
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
