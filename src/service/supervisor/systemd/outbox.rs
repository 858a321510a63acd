//! Writes to the socket of `sd_notify(3)` without ever waiting for the other end.
//!
//! `sd_notify::notify` is not used, because it blocks while the socket's queue is full and does not
//! support abstract addresses.

use std::{
    collections::VecDeque,
    convert::Infallible,
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// Pause before a message is sent again, if the socket's queue was full.
const RETRY: Duration = Duration::from_millis(100);

/// The kind of a message. It decides which waiting messages the new message replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reloading,
    Ready,
    Stopping,
}

/// Sends messages in order. Keeps a message while the socket's queue is full.
#[derive(Debug)]
pub(super) struct Outbox<S> {
    socket: S,
    state: Mutex<State>,
    /// Notified when a message has to be sent again.
    has_waiting: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Kind, String)>,
    /// A [`Kind::Stopping`] was sent. No message may follow it.
    is_stopping: bool,
    /// A failure has been logged since the last success.
    is_reported: bool,
}

/// A socket that takes a message or refuses it, without waiting.
pub(super) trait Socket {
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the queue is full.
    fn send(&self, message: &str) -> io::Result<()>;
}

impl<S: Socket> Outbox<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, state: Mutex::default(), has_waiting: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message now, or later if the queue is full. It replaces waiting messages that it
    /// outdates, so at most two messages wait. No message follows a [`Kind::Stopping`].
    pub(super) fn tell(&self, kind: Kind, message: String) {
        let mut state = self.lock();
        if state.is_stopping {
            return;
        }
        match kind {
            Kind::Reloading => state.waiting.clear(),
            Kind::Ready => state.waiting.retain(|(kind, _)| *kind == Kind::Reloading),
            Kind::Stopping => {
                state.waiting.clear();
                state.is_stopping = true;
            }
        }
        state.waiting.push_back((kind, message));
        if !self.send_waiting(&mut state) {
            self.has_waiting.notify_one();
        }
    }

    /// Sends a message, or drops it if the queue is full. For messages that are sent periodically.
    pub(super) fn mention(&self, message: &str) {
        let mut state = self.lock();
        if self.send_waiting(&mut state) {
            // If this fails, the next one comes soon.
            let _ = self.send(&mut state, message);
        }
    }

    /// Sends waiting messages as soon as the queue has room.
    pub(super) async fn send_again(&self) -> Infallible {
        loop {
            self.has_waiting.notified().await;
            while !self.send_waiting(&mut self.lock()) {
                sleep(RETRY).await;
            }
        }
    }

    /// Sends the waiting messages. Returns whether all were sent.
    fn send_waiting(&self, state: &mut State) -> bool {
        while let Some((_, message)) = state.waiting.front().cloned() {
            if !self.send(state, &message) {
                return false;
            }
            state.waiting.pop_front();
        }
        true
    }

    /// Sends a message. Returns `false` if it has to be sent again.
    fn send(&self, state: &mut State, message: &str) -> bool {
        let sent = self.socket.send(message);
        let has_room = !matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        match sent {
            Ok(()) => state.is_reported = false,
            // Log only the first of several failures, because a short watchdog period would flood
            // the log.
            Err(_) if state.is_reported => {}
            Err(error) => {
                state.is_reported = true;
                tracing::warn!(%error, "cannot notify the service manager");
            }
        }
        has_room
    }
}

/// The socket of the service manager: a path or, with a leading `@`, an abstract address.
///
/// Keeps one socket open for all messages, so that notifications still work if the process has no
/// free file descriptor.
#[derive(Debug)]
pub(super) struct Manager {
    address: SocketAddr,
    socket: UnixDatagram,
}

impl Manager {
    /// From the value of `NOTIFY_SOCKET`.
    pub(super) fn at(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => {
                use std::os::linux::net::SocketAddrExt as _;
                SocketAddr::from_abstract_name(name)?
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract address",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { address, socket })
    }
}

impl Socket for Manager {
    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, pin::pin};

    use tokio::time::{Instant, timeout_at};

    use super::*;

    /// Takes a limited number of messages.
    #[derive(Default)]
    struct Queue {
        room: RefCell<usize>,
        took: RefCell<Vec<String>>,
    }

    impl Socket for Queue {
        fn send(&self, message: &str) -> io::Result<()> {
            let mut room = self.room.borrow_mut();
            *room = room.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
            self.took.borrow_mut().push(message.to_owned());
            Ok(())
        }
    }

    fn sent(outbox: &Outbox<Queue>, room: usize) -> Vec<String> {
        outbox.socket.room.replace(room);
        outbox.send_waiting(&mut outbox.lock());
        outbox.socket.room.replace(0);
        outbox.socket.took.take()
    }

    #[test]
    fn f02_a_message_without_room_is_sent_later_unless_it_is_outdated() {
        use Kind::{Ready, Reloading, Stopping};
        let outbox = Outbox::new(Queue::default());
        let tell = |kind, message: &str| outbox.tell(kind, message.to_owned());
        tell(Ready, "ready 1");
        outbox.mention("alive");
        assert_eq!(sent(&outbox, 9), ["ready 1"]);

        tell(Reloading, "reloading 1");
        tell(Ready, "ready 2");
        tell(Reloading, "reloading 2");
        tell(Ready, "ready 3");
        tell(Ready, "ready 4");
        assert_eq!(sent(&outbox, 1), ["reloading 2"]);
        outbox.socket.room.replace(9);
        outbox.mention("alive");
        assert_eq!(sent(&outbox, 0), ["ready 4", "alive"], "in order");

        outbox.socket.room.replace(1);
        tell(Ready, "ready 5");
        tell(Reloading, "reloading 3");
        tell(Stopping, "stopping");
        // F24: no `ready` after `stopping`.
        tell(Ready, "ready 6");
        assert_eq!(sent(&outbox, 9), ["ready 5", "stopping"]);
        outbox.socket.room.replace(1);
        outbox.mention("alive");
        assert_eq!(sent(&outbox, 0), ["alive"], "the watchdog is notified during the drain");
    }

    #[tokio::test(start_paused = true)]
    async fn f02_a_message_is_sent_again_until_there_is_room() {
        let outbox = Outbox::new(Queue::default());
        let begun = Instant::now();
        let mut sending = pin!(outbox.send_again());
        outbox.tell(Kind::Ready, "ready".to_owned());
        assert!(timeout_at(begun + 10 * RETRY, sending.as_mut()).await.is_err());
        outbox.socket.room.replace(1);
        assert!(timeout_at(begun + 12 * RETRY, sending.as_mut()).await.is_err());
        assert_eq!(outbox.socket.took.take(), ["ready"]);
    }
}
