//! Handshakes that begin well and go no further, at a steady rate.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// Connections that a flood holds: more than `max-handshakes` lets be.
const HELD: usize = 300;

/// A connection from another address of this host, which all of 127.0.0.0/8 is: its share of
/// connections is its own.
#[track_caller]
pub(crate) fn connect_from_elsewhere(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("bound");
    socket.connect(&address.into()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.into()
}

/// Sends one of `hellos` after the other, each over a connection of its own, so many a second.
/// Gives their number.
///
/// # Panics
/// When the last ones are not answered: then they were no handshakes.
pub(crate) fn of_hellos(
    address: SocketAddr,
    hellos: &[Vec<u8>],
    a_second: u32,
    lasts: Duration,
) -> u32 {
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
