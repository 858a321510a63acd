//! A link with a long round trip: bytes arrive later, and in order.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::client::connect_from;

/// Forwards connections from an address of this host, with a delay of half a round trip in each
/// direction. Dropping the link stops it from accepting connections; open connections continue.
pub struct Link {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Link {
    /// A link to `target`, which sees the connections come from `source`.
    pub fn new(target: SocketAddr, source: Ipv4Addr, round_trip: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stopped = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&stopped);
        let one_way = round_trip / 2;
        thread::spawn(move || {
            for near in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(near) = near else { continue };
                thread::spawn(move || pass_on(near, target, source, one_way));
            }
        });
        Self { address, stopped }
    }

    /// The address of the link, to connect to instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread. An error means that the thread has ended already.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass_on(near: TcpStream, target: SocketAddr, source: Ipv4Addr, one_way: Duration) {
    // Simulates the TCP handshake: its last packet arrives one and a half round trips after the
    // first is sent.
    thread::sleep(one_way * 3);
    let Ok(far) = connect_from(source, target) else { return };
    let (Ok(near_reader), Ok(far_reader)) = (near.try_clone(), far.try_clone()) else { return };
    for socket in [&near, &far] {
        // An error shows at the next write.
        let _ = socket.set_nodelay(true);
    }
    thread::spawn(move || pump(near_reader, far, one_way));
    pump(far_reader, near, one_way);
}

/// Forwards bytes with the delay until either side ends. Then ends both.
fn pump(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let (sender, arriving) = mpsc::channel::<(Instant, Vec<u8>)>();
    let Ok(reader) = from.try_clone() else { return };
    thread::spawn(move || {
        for (due, piece) in arriving {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        // Fails if the other side has closed the socket already.
        let _ = to.shutdown(Shutdown::Both);
        let _ = reader.shutdown(Shutdown::Both);
    });
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut piece).unwrap_or(0);
        let sent = sender.send((Instant::now() + one_way, piece[..count].to_vec()));
        if count == 0 || sent.is_err() {
            return;
        }
    }
}
