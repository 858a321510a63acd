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

/// How many bytes of one answer a scraper must have taken, with no pause longer than
/// [`WriteRoom::longest_pause`], to count as fast.
const FAST: usize = 1024 * 1024;

/// How long a fast scraper may take to make room in a full socket with the limit [`MOST_UNSENT`]. The
/// kernel reports room when half of the limit is free. Half of it in this time is 100 Mbit/s.
const PAUSE: Duration = Duration::from_millis(10);

/// The room of a fast scraper, in bytes: one batch of the largest size. If a fast scraper suddenly
/// stops, the process keeps up to this number of bytes.
const LARGE: usize = 256 * 1024;

/// The room of one socket.
#[derive(Debug)]
pub(super) struct WriteRoom {
    /// Number of bytes that the socket has accepted since the last long pause. Until the scraper
    /// counts as fast, only bytes of the current answer count.
    accepted: usize,
    /// When the socket became full, if it is.
    full_since: Option<Instant>,
    /// Whether scrapegate compresses the current answer.
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
    /// An answer begins. A fast scraper stays fast.
    pub(super) fn begin_answer(&mut self, stream: &TcpStream, is_compressed: bool) {
        // Many small answers fit into the socket of a slow scraper too.
        if !self.is_fast() {
            self.accepted = 0;
        }
        self.is_compressed = is_compressed;
        self.lower_limit(stream);
    }

    /// The socket has accepted `count` bytes. Returns how many it will probably accept next.
    pub(super) fn accepted(&mut self, stream: &TcpStream, count: usize) -> usize {
        if self.full_since.take().is_some_and(|since| since.elapsed() > self.longest_pause()) {
            self.accepted = 0;
            self.lower_limit(stream);
        }
        self.accepted = self.accepted.saturating_add(count);
        if self.is_fast() {
            self.raise_limit(stream);
            return LARGE;
        }
        if count < SMALL {
            return 2 * count;
        }
        let not_sent = TcpInfo::of(stream).map_or(self.most_unsent / 2, |info| info.not_sent);
        self.most_unsent.saturating_sub(not_sent).min(2 * count)
    }

    /// The socket is full.
    pub(super) fn full(&mut self, stream: &TcpStream) {
        self.full_since.get_or_insert_with(Instant::now);
        self.raise_limit(stream);
    }

    fn is_fast(&self) -> bool {
        self.accepted >= FAST
    }

    /// How long a fast scraper may take to make room in the full socket.
    fn longest_pause(&self) -> Duration {
        PAUSE.mul_f64(self.most_unsent as f64 / MOST_UNSENT as f64)
    }

    /// The limit for unsent bytes that fits the scraper and the answer.
    fn fitting_limit(&self) -> usize {
        if self.is_fast() {
            MOST_UNSENT_OF_FAST
        } else if self.is_compressed {
            MOST_UNSENT_COMPRESSED
        } else {
            MOST_UNSENT
        }
    }

    fn raise_limit(&mut self, stream: &TcpStream) {
        self.set_limit(stream, self.fitting_limit().max(self.most_unsent));
    }

    /// Lowers the limit by at most half. The kernel still sends all that it has accepted. Below a
    /// much lower limit, a slow scraper could need longer than the `stall-timeout` until the socket
    /// accepts the next byte.
    fn lower_limit(&mut self, stream: &TcpStream) {
        let bytes = self.fitting_limit().max(self.most_unsent / 2);
        self.set_limit(stream, bytes.min(self.most_unsent));
    }

    fn set_limit(&mut self, stream: &TcpStream, bytes: usize) {
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
        room.full(&stream);
        assert_eq!(limit_of(&stream), MOST_UNSENT);
        room.begin_answer(&stream, true);
        room.accepted(&stream, 1000);
        assert_eq!(limit_of(&stream), MOST_UNSENT, "the socket was not full");
        room.full(&stream);
        assert_eq!(limit_of(&stream), MOST_UNSENT_COMPRESSED);
        assert_eq!(room.most_unsent, MOST_UNSENT_COMPRESSED);
    }

    #[tokio::test]
    async fn each_further_answer_without_compression_halves_the_limit() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        room.begin_answer(&stream, true);
        room.full(&stream);
        room.begin_answer(&stream, true);
        assert_eq!(limit_of(&stream), MOST_UNSENT_COMPRESSED);
        for expected in [768 * 1024, 384 * 1024, MOST_UNSENT, MOST_UNSENT] {
            room.begin_answer(&stream, false);
            room.full(&stream);
            assert_eq!(limit_of(&stream), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_is_fast_until_it_makes_a_long_pause() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        for _ in 0..FAST / MOST_UNSENT - 1 {
            assert_eq!(room.accepted(&stream, MOST_UNSENT), MOST_UNSENT);
            room.full(&stream);
            advance(PAUSE).await;
        }
        assert_eq!(room.accepted(&stream, 64 * 1024), 128 * 1024, "not fast yet");
        assert_eq!(room.accepted(&stream, MOST_UNSENT), LARGE);
        assert_eq!(limit_of(&stream), MOST_UNSENT_OF_FAST);
        assert_eq!(room.accepted(&stream, 1), LARGE);
        // 1 MiB in 80 ms is 100 Mbit/s too.
        let longest = PAUSE * 8;
        room.full(&stream);
        advance(longest).await;
        assert_eq!(room.accepted(&stream, 1), LARGE, "still fast");
        for expected in [MOST_UNSENT_OF_FAST / 2, MOST_UNSENT_OF_FAST / 4, MOST_UNSENT] {
            room.full(&stream);
            advance(longest + Duration::from_millis(1)).await;
            assert_eq!(room.accepted(&stream, 40 * 1024), 80 * 1024);
            assert_eq!(limit_of(&stream), expected, "the scraper is no longer fast");
        }
    }

    #[tokio::test]
    async fn many_small_answers_do_not_make_a_scraper_fast() {
        let (stream, _peer) = connected().await;
        let mut room = WriteRoom::default();
        for _ in 0..2 * FAST / SMALL {
            room.begin_answer(&stream, false);
            assert_eq!(room.accepted(&stream, SMALL - 1), 2 * (SMALL - 1));
        }
        room.accepted(&stream, FAST);
        room.begin_answer(&stream, false);
        assert_eq!(room.accepted(&stream, 1), LARGE, "a fast scraper stays fast");
    }

    #[tokio::test]
    async fn a_full_socket_whose_limit_was_lowered_is_writable_when_the_peer_has_read() {
        let (stream, peer) = connected().await;
        let mut room = WriteRoom::default();
        room.begin_answer(&stream, true);
        room.full(&stream);
        let piece = [0; 16 * 1024];
        while stream.try_write(&piece).is_ok() {}
        room.begin_answer(&stream, false);
        assert_eq!(limit_of(&stream), MOST_UNSENT_COMPRESSED / 2);
        let mut waste = [0; 64 * 1024];
        loop {
            tokio::select! {
                biased;
                writable = stream.writable() => {
                    writable.unwrap();
                    if stream.try_write(&piece).is_ok() {
                        return;
                    }
                }
                readable = peer.readable() => {
                    readable.unwrap();
                    let _ = peer.try_read(&mut waste);
                }
            }
        }
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
        room.begin_answer(&stream, true);
        room.full(&stream);
        // Shows whether a call sets the limit again.
        allow_unsent(&stream, 4096).unwrap();
        room.begin_answer(&stream, true);
        room.full(&stream);
        assert_eq!(limit_of(&stream), 4096);
    }
}
