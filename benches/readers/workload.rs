//! The bodies, and an exporter that sends them over loopback.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use scrapegate_harness::{
    body::Kind,
    message::{Framing, Message},
};

/// A body, and how the exporter writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    kind: Kind,
    framing: Framing,
    /// Number of bytes that the exporter writes with one call.
    write: usize,
    /// Length of the body over loopback, in MiB.
    pub(crate) mib: usize,
}

/// All bodies. The exporter writes each chunk with one call, as Go's net/http does, except for the
/// tiny ones.
pub(crate) const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "4 KiB chunks",
        kind: Kind::Text,
        framing: Framing::Chunked(4096),
        write: "1000\r\n".len() + 4096 + "\r\n".len(),
        mib: 256,
    },
    Workload {
        name: "gzip, 2 KiB chunks",
        kind: Kind::Opaque,
        framing: Framing::Chunked(2048),
        write: "800\r\n".len() + 2048 + "\r\n".len(),
        mib: 256,
    },
    Workload {
        name: "Content-Length",
        kind: Kind::Text,
        framing: Framing::Length,
        write: 64 * 1024,
        mib: 512,
    },
    Workload {
        name: "1-byte chunks",
        kind: Kind::Text,
        framing: Framing::Chunked(1),
        write: 64 * 1024,
        mib: 4,
    },
];

impl Workload {
    /// The response with a body of `mib` MiB.
    pub(crate) fn message(self, mib: usize) -> Message {
        Message::new(self.kind, self.framing, mib << 20)
    }

    /// Starts an exporter that answers each connection. Its thread ends with the process.
    pub(crate) fn exporter(self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let message = self.message(self.mib);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // If the reader has closed the connection, the reader notices.
                let _ = answer(stream, &message, self.write);
            }
        });
        address
    }
}

fn answer(mut stream: TcpStream, message: &Message, write: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut length) = ([0; 4096], 0);
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
    }
    message.pieces().flat_map(|piece| piece.chunks(write)).try_for_each(|it| stream.write_all(it))
}
