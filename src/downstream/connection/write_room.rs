//! How many bytes the socket of a scraper will accept at once.
//!
//! A batch that the socket accepts as a whole leaves nothing in the memory of the process if the
//! scraper stops reading. A larger batch saves system calls, timers of the kernel, and wake-ups of
//! the scraper. So the size of the batches follows the socket. It starts small, and doubles while the
//! socket accepts all, up to what the kernel still has room for. A scraper that has proved to be fast
//! gets large batches in any case.

use std::time::Duration;

use tokio::{net::TcpStream, time::Instant};

use crate::downstream::{
    socket::{MOST_UNSENT, MOST_UNSENT_COMPRESSED, MOST_UNSENT_OF_FAST, allow_unsent},
    tcp_info::TcpInfo,
};

/// Writes below this size, in bytes, are not worth a system call to find out the room.
const SMALL: usize = 32 * 1024;

/// How many bytes a scraper must have taken, with no pause longer than [`PAUSE`], to count as fast.
const FAST: usize = 1024 * 1024;

/// How long a fast scraper may take to make room in a full socket. Half of [`MOST_UNSENT`] in this
/// time is 100 Mbit/s.
const PAUSE: Duration = Duration::from_millis(10);

/// The room of a fast scraper, in bytes: one batch of the largest size. If a fast scraper suddenly
/// stops, the process keeps up to this number of bytes.
const LARGE: usize = 256 * 1024;

/// The room of one socket.
#[derive(Debug)]
pub(super) struct WriteRoom {
    /// Number of bytes that the socket has accepted since the last long pause.
    accepted: usize,
    /// When the socket became full, if it is.
    full_since: Option<Instant>,
    /// Whether scrapegate compressed the answer that last filled the socket.
    is_compressed: bool,
    /// Limit for the bytes that the kernel accepts before it can send them, as set at the socket.
    most_unsent: usize,
}

impl Default for WriteRoom {
    fn default() -> Self {
        Self { accepted: 0, full_since: None, is_compressed: false, most_unsent: MOST_UNSENT }
    }
}

impl WriteRoom {
    /// The socket has accepted `count` bytes. Returns how many it will probably accept next.
    pub(super) fn accepted(&mut self, stream: &TcpStream, count: usize) -> usize {
        if self.full_since.take().is_some_and(|since| since.elapsed() > PAUSE) {
            self.accepted = 0;
        }
        self.accepted = self.accepted.saturating_add(count);
        self.limit_unsent(stream);
        if self.is_fast() {
            return LARGE;
        }
        if count < SMALL {
            return 2 * count;
        }
        let not_sent = TcpInfo::of(stream).map_or(self.most_unsent / 2, |info| info.not_sent);
        self.most_unsent.saturating_sub(not_sent).min(2 * count)
    }

    /// The socket is full.
    pub(super) fn full(&mut self, stream: &TcpStream, is_compressed: bool) {
        self.full_since.get_or_insert_with(Instant::now);
        self.is_compressed = is_compressed;
        self.limit_unsent(stream);
    }

    fn is_fast(&self) -> bool {
        self.accepted >= FAST
    }

    /// Sets the limit for unsent bytes, if it has changed. A lower limit does not discard what the
    /// kernel already has.
    fn limit_unsent(&mut self, stream: &TcpStream) {
        let bytes = if self.is_fast() {
            MOST_UNSENT_OF_FAST
        } else if self.is_compressed {
            MOST_UNSENT_COMPRESSED
        } else {
            MOST_UNSENT
        };
        // If setting the option fails, the limit does not change.
        if self.most_unsent != bytes && allow_unsent(stream, bytes).is_ok() {
            self.most_unsent = bytes;
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::{net::TcpListener, time::advance};

    use super::*;

    /// A socket with the usual limit, and its peer, which does not read.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = listener.accept().await.unwrap().0;
        allow_unsent(&stream, MOST_UNSENT).unwrap();
        (stream, peer)
    }

    fn limit_of(stream: &TcpStream) -> usize {
        socket2::SockRef::from(stream).tcp_notsent_lowat().unwrap().try_into().unwrap()
    }

    #[tokio::test]
    async fn the_room_doubles_up_to_what_the_kernel_accepts() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        assert_eq!(room.accepted(&stream, 1000), 2000);
        assert_eq!(room.accepted(&stream, 64 * 1024), 128 * 1024);
        assert_eq!(room.accepted(&stream, 200 * 1024), MOST_UNSENT);
    }

    #[tokio::test]
    async fn bytes_that_the_kernel_has_not_sent_take_room() {
        let (stream, _peer) = connected().await;
        let piece = [0; 16 * 1024];
        while stream.try_write(&piece).is_ok() {}
        let mut room = WriteRoom::default();
        let left = room.accepted(&stream, 200 * 1024);
        assert!(left < MOST_UNSENT / 2, "{left} bytes, but the socket is full");
    }

    #[tokio::test]
    async fn a_compressed_answer_has_more_room_once_the_socket_is_full() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        room.full(&stream, false);
        assert_eq!(room.most_unsent, MOST_UNSENT);
        room.full(&stream, true);
        assert_eq!(room.most_unsent, MOST_UNSENT_COMPRESSED);
        assert_eq!(limit_of(&stream), MOST_UNSENT_COMPRESSED);
        // The next answer is not compressed.
        room.full(&stream, false);
        assert_eq!(limit_of(&stream), MOST_UNSENT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_is_fast_until_it_makes_a_long_pause() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        for _ in 0..FAST / MOST_UNSENT - 1 {
            assert_eq!(room.accepted(&stream, MOST_UNSENT), MOST_UNSENT);
            room.full(&stream, false);
            advance(PAUSE).await;
        }
        assert_eq!(room.accepted(&stream, 64 * 1024), 128 * 1024, "not fast yet");
        assert_eq!(room.accepted(&stream, MOST_UNSENT), LARGE);
        assert_eq!(room.most_unsent, MOST_UNSENT_OF_FAST);
        assert_eq!(room.accepted(&stream, 1), LARGE);
        room.full(&stream, false);
        advance(PAUSE + Duration::from_millis(1)).await;
        assert_eq!(room.accepted(&stream, 40 * 1024), 80 * 1024);
        assert_eq!(limit_of(&stream), MOST_UNSENT, "the scraper is no longer fast");
    }

    #[tokio::test]
    async fn the_kernel_is_asked_for_the_room_from_32_kib_on() {
        let (stream, _peer) = connected().await;
        let piece = [0; 16 * 1024];
        while stream.try_write(&piece).is_ok() {}
        let mut room = WriteRoom::default();
        for small in [1000, SMALL - 1] {
            assert_eq!(room.accepted(&stream, small), 2 * small, "the kernel is not asked");
        }
        let left = room.accepted(&stream, SMALL);
        assert!(left < 2 * SMALL, "{left} bytes, but the socket is full");
    }

    #[tokio::test]
    async fn half_of_the_limit_counts_as_not_sent_if_the_kernel_does_not_tell() {
        let (stream, _peer) = crate::downstream::tcp_info::fixture::unknown();
        assert_eq!(WriteRoom::default().accepted(&stream, 200 * 1024), MOST_UNSENT / 2);
    }

    #[tokio::test]
    async fn the_same_limit_is_set_only_once() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        room.full(&stream, true);
        // Shows whether a call sets the limit again.
        allow_unsent(&stream, 4096).unwrap();
        room.full(&stream, true);
        assert_eq!(limit_of(&stream), 4096);
    }
}
