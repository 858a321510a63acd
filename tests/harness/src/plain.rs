//! A client that sends raw bytes over plain TCP.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// One plain TCP connection to the proxy.
pub struct Plain(TcpStream);

impl Plain {
    /// Connects to the proxy.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self(stream)
    }

    /// Sends exactly these bytes.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref())
    }

    /// All bytes until the connection ends. A reset counts as the end, too.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the proxy neither sends nor closes: {error}"),
        }
        bytes
    }

    /// The next bytes, up to and including `end`.
    pub fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while !bytes.ends_with(end) {
            self.0.read_exact(&mut byte).expect("more bytes");
            bytes.extend(byte);
        }
        bytes
    }
}

/// Sends the last request of a connection; returns the whole response.
pub fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut plain = Plain::connect(address);
    // The proxy may refuse and close before everything is sent.
    let _ = plain.send(request);
    String::from_utf8_lossy(&plain.read_to_end()).into_owned()
}

/// Sends a `GET`; returns the whole response.
pub fn get(address: SocketAddr, target: &str) -> String {
    exchange(address, format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
}

/// Sends a `POST` of JSON; returns the whole response.
pub fn post(address: SocketAddr, target: &str, body: &str) -> String {
    exchange(address, post_request(target, body))
}

/// The bytes of a `POST` of JSON.
pub fn post_request(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The status of a response; 0 if it is not a response.
pub fn status(answer: &str) -> u16 {
    let words = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    words.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The part of a response after the head.
pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
