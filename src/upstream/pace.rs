//! Lets the kernel gather what a fast exporter writes, so that neither side is woken for every
//! few kilobytes.
//!
//! A reader that keeps up with an exporter is woken for each of its writes, and the exporter pays
//! for that in its `write`. So once a body has proved large, and its reader has found the socket
//! empty twice within [`HOLD`], the socket counts as readable only with [`GATHER`] bytes in it
//! (`SO_RCVLOWAT`, socket(7)), at the end of the stream, or after [`HOLD`]. The first bytes, small
//! bodies and slow exporters never wait.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::body::READ_SIZE;

/// Bytes that are worth a wake-up. With half of it a GB of small chunks costs a tenth more.
const GATHER: usize = 2 * READ_SIZE;

/// How long bytes wait for more, at most; the runtime's clock adds up to its tick of 1 ms.
const HOLD: Duration = Duration::from_millis(1);

/// Bytes that make a body a large one.
const LARGE: usize = READ_SIZE;

/// Decides, each time an exporter's socket is empty, with how many bytes it is worth a look again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes read so far, as long as they are fewer than [`LARGE`].
    received: usize,
    /// When the socket was found empty last.
    empty_since: Option<Instant>,
    /// Ends the waiting of bytes that stay few. It is not moved at each read: it looks at
    /// `empty_since` when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the socket waits for [`GATHER`] bytes.
    gathers: bool,
    awaits: bool,
}

impl Pace {
    /// Bytes were read.
    pub(super) fn received(&mut self, count: usize) {
        self.received = self.received.saturating_add(count);
        self.awaits = false;
    }

    /// The socket is empty, and wakes the task of `cx` when it is not.
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
                // Wakes the task if there is anything to read.
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

/// Elsewhere `poll` does not look at it, or not that anyone has measured.
#[cfg(not(target_os = "linux"))]
fn set_low_water(_: &TcpStream, _: usize) -> bool {
    false
}
