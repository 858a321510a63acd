//! Floods of useless connections at a steady rate: incomplete handshakes, silent connections, and
//! connections that are closed at once.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;

/// Number of connections that a flood keeps open: more than `max-handshakes` allows, and no more
/// than one address may have.
const HELD: usize = 400;

/// A connection from another address of this host (all of 127.0.0.0/8), so that it counts towards
/// the limit of that address.
#[track_caller]
pub fn connect_from_elsewhere(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("bound");
    socket.connect(&address.into()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.into()
}

/// Calls `act` this many times a second until `over` is set, or as often as the machine allows.
/// Returns the number of calls. The sleep keeps the rate.
pub fn at_a_rate(a_second: u32, over: &AtomicBool, mut act: impl FnMut()) -> u32 {
    /// A thread that sleeps for a shorter time wakes up late.
    const SHORTEST: Duration = Duration::from_millis(1);
    let (begun, mut done) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        act();
        done += 1;
        let due = begun + Duration::from_secs(1) * done / a_second;
        let early = due.saturating_duration_since(Instant::now());
        if early > SHORTEST {
            thread::sleep(early);
        }
    }
    done
}

/// Keeps the last `HELD` connections from `connect` open, so that the proxy closes the others, and
/// not this side.
fn held(mut connect: impl FnMut() -> TcpStream) -> impl FnMut() {
    let mut all = VecDeque::new();
    move || {
        all.push_back(connect());
        if all.len() > HELD {
            all.pop_front();
        }
    }
}

/// Connections from another address that send nothing.
pub fn of_silence(address: SocketAddr, a_second: u32, over: &AtomicBool) -> u32 {
    at_a_rate(a_second, over, held(|| connect_from_elsewhere(address)))
}

/// Connections from another address that send one of `hellos` and nothing more.
pub fn of_endless_hellos(
    address: SocketAddr,
    hellos: &[Vec<u8>],
    a_second: u32,
    over: &AtomicBool,
) -> u32 {
    let mut hellos = hellos.iter().cycle();
    let connect = || {
        let mut stream = connect_from_elsewhere(address);
        if let Some(hello) = hellos.next() {
            // The proxy may have closed the connection already.
            let _ = stream.write_all(hello);
        }
        stream
    };
    at_a_rate(a_second, over, held(connect))
}

/// Connections from 127.0.0.4 that are closed at once (FIN).
///
/// The connects do not wait: if the backlog is full, a packet is lost and the next one is sent.
pub fn of_ends(address: SocketAddr, a_second: u32, over: &AtomicBool) -> u32 {
    /// Several threads, because one does not get enough of a busy machine's processor time.
    const THREADS: u16 = 4;
    /// Ports of each thread. All are below the ports that the system assigns: a port stays in
    /// TIME-WAIT for a minute, and other tests need free ports.
    const PORTS: u16 = 7500;
    let flood = |number: u16| {
        let first = 1024 + number * PORTS;
        let mut ports = (first..first + PORTS).cycle();
        let connect = || {
            let port = ports.next().unwrap_or(first);
            // The port may be in use.
            drop(connect_and_end(SocketAddr::from(([127, 0, 0, 4], port)), address));
        };
        at_a_rate(a_second / u32::from(THREADS), over, connect)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|it| scope.spawn(move || flood(it))).collect();
        threads.into_iter().map(|it| it.join().expect("no panic")).sum()
    })
}

fn connect_and_end(source: SocketAddr, address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())?;
    match socket.connect(&address.into()) {
        // On the same host, the connection is established by now if the backlog had room.
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

/// Sends `hellos` in turn, each over a new connection, at this rate. Returns the number of
/// connections. The sleep keeps the rate.
///
/// # Panics
/// If the proxy does not answer the last ones, because then they were not handshakes.
pub fn of_hellos(address: SocketAddr, hellos: &[Vec<u8>], a_second: u32, lasts: Duration) -> u32 {
    let mut held = VecDeque::new();
    let (begun, mut sent) = (Instant::now(), 0);
    for hello in hellos.iter().cycle().take_while(|_| begun.elapsed() < lasts) {
        let mut stream = connect_from_elsewhere(address);
        stream.write_all(hello).expect("sent");
        sent += 1;
        held.push_back(stream);
        if held.len() > HELD {
            held.pop_front();
        }
        let due = begun + Duration::from_secs(1) * sent / a_second;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for mut stream in held.into_iter().rev().take(10) {
        stream.read_exact(&mut [0; 5]).expect("the start of an answer");
    }
    sent
}
