//! A scraper that sends raw bytes over TLS and parses responses strictly.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use aws_lc_rs::digest;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName,
};
use socket2::{Domain, Socket, Type};

use crate::{PATIENCE, body::hex, exporter::is_timeout};

/// Number of bytes at the start of a body that are kept for inspection. Compressed bodies up to this
/// length can be decoded.
const KEPT: usize = 256 * 1024;

/// A connection to `address` from another address of this host.
///
/// # Errors
/// Errors of the socket.
pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// One TLS connection to the proxy. It reads only on request.
pub struct Client {
    address: SocketAddr,
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    /// Connects and completes the handshake as far as a client can tell: with TLS 1.3, the first
    /// read reports whether the proxy accepts the client certificate.
    ///
    /// # Errors
    /// Errors of the socket and of TLS.
    pub fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?, config)
    }

    /// Makes the handshake over an existing TCP connection.
    ///
    /// # Errors
    /// Errors of the socket and of TLS.
    pub fn over(mut socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let address = socket.peer_addr()?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let stream = BufReader::with_capacity(64 * 1024, StreamOwned::new(tls, socket));
        Ok(Self { address, stream })
    }

    /// Sends exactly these bytes.
    ///
    /// # Errors
    /// Errors of the socket and of TLS.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Sends a GET for `target` with only a `Host` header.
    ///
    /// # Errors
    /// Errors of the socket and of TLS.
    pub fn send_get(&mut self, target: &str) -> io::Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }

    /// Sends a GET and reads the response.
    ///
    /// # Panics
    /// If no response head arrives.
    pub fn get(&mut self, target: &str) -> Response {
        self.send_get(target).expect("the request is sent");
        self.read_response().expect("a response head")
    }

    /// Reads a response: its head, and as much of its body as arrives.
    ///
    /// # Errors
    /// If the head does not arrive or is not valid HTTP.
    pub fn read_response(&mut self) -> io::Result<Response> {
        Response::read(&mut self.stream)
    }

    /// Reads the head of a response and nothing of its body.
    ///
    /// # Errors
    /// If the head does not arrive or is not valid HTTP.
    pub fn read_head(&mut self) -> io::Result<Head> {
        Head::read(&mut self.stream)
    }

    /// Reads the body that `head` announces, or as much of it as arrives.
    ///
    /// # Panics
    /// If the proxy neither sends nor closes for [`PATIENCE`].
    pub fn read_body(&mut self, head: &Head) -> Received {
        Received::read(&mut self.stream, head)
    }

    /// Reads the available bytes, at most `most`. Waits if none are available.
    ///
    /// # Errors
    /// Errors of the socket and of TLS; [`io::ErrorKind::UnexpectedEof`] at the end.
    pub fn read_some(&mut self, most: usize) -> io::Result<usize> {
        match self.stream.fill_buf()?.len().min(most) {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.stream.consume(count);
                Ok(count)
            }
        }
    }

    /// Reads until the connection ends. The second value is how it ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Cut) {
        let mut bytes = Vec::new();
        let cut = match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Cut::CloseNotify,
            Err(error) => Cut::from(error),
        };
        (bytes, cut)
    }

    /// Sends close_notify, which announces that nothing more will be sent.
    ///
    /// # Errors
    /// Errors of the socket and of TLS.
    pub fn send_close_notify(&mut self) -> io::Result<()> {
        self.stream.get_mut().conn.send_close_notify();
        self.stream.get_mut().flush()
    }

    /// Updates its sending keys this many times, and notifies the proxy (RFC 8446 section 4.6.3).
    ///
    /// # Errors
    /// Errors of the socket and of TLS. The version must be 1.3.
    pub fn change_keys(&mut self, times: usize) -> io::Result<()> {
        let stream = self.stream.get_mut();
        for _ in 0..times {
            stream.conn.refresh_traffic_keys().map_err(io::Error::other)?;
        }
        stream.flush()
    }

    /// The socket below TLS, for socket options and raw bytes.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().sock
    }

    /// Polls the kernel's socket table until the proxy has read everything that was sent.
    ///
    /// # Panics
    /// If it has not after [`PATIENCE`].
    pub fn wait_until_read(&self) {
        Self::wait_until_all_read(std::slice::from_ref(self));
    }

    /// The same for several clients. The table lists all sockets of the machine, so one look for
    /// all of them is much faster than one for each.
    ///
    /// # Panics
    /// If the proxy has not read everything after [`PATIENCE`].
    pub fn wait_until_all_read(clients: &[Self]) {
        let own: HashSet<String> = clients.iter().map(Self::address_in_table).collect();
        let limit = Instant::now() + PATIENCE;
        loop {
            // proc(5): local and remote address, state, and the queues `sent:received`.
            let table = fs::read_to_string("/proc/net/tcp").expect("the kernel lists sockets");
            let has_unread = table.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(2);
                let is_proxys_end = fields.next().is_some_and(|remote| own.contains(remote));
                is_proxys_end && fields.nth(1).is_some_and(|it| !it.ends_with(":00000000"))
            });
            if !has_unread {
                return;
            }
            assert!(Instant::now() < limit, "the proxy does not read");
            thread::yield_now();
        }
    }

    /// The whole address of this end, as the socket table prints it: connections from other
    /// addresses of this host may have the same port.
    fn address_in_table(&self) -> String {
        let SocketAddr::V4(own) = self.socket().local_addr().expect("connected") else {
            panic!("`/proc/net/tcp` lists IPv4 only");
        };
        // The kernel prints the bytes of the address as one number of this machine's byte order.
        format!("{:08X}:{:04X}", u32::from_ne_bytes(own.ip().octets()), own.port())
    }

    /// The TLS connection, with its negotiated parameters.
    pub fn tls(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }
}

/// The status line and the headers of a response.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The reason phrase. May be empty.
    pub reason: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let status_line = read_line(stream)?;
        let rest = status_line.strip_prefix("HTTP/1.1 ").ok_or_else(|| not_http(&status_line))?;
        let (status, reason) = rest.split_once(' ').ok_or_else(|| not_http(&status_line))?;
        let mut head = Self {
            status: status.parse().map_err(|_| not_http(&status_line))?,
            reason: reason.to_owned(),
            headers: Vec::new(),
        };
        loop {
            let line = read_line(stream)?;
            if line.is_empty() {
                return Ok(head);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| not_http(&line))?;
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The value of a header, by its name in lower case.
    ///
    /// # Panics
    /// If the header occurs more than once. The proxy must not repeat a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }
}

/// A head, and the body that followed.
#[derive(Debug)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// What arrived of the body.
    pub body: Received,
}

impl Response {
    /// Reads a response from any stream: its head, and as much of its body as arrives.
    ///
    /// # Errors
    /// If the head does not arrive or is not valid HTTP.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let head = Head::read(stream)?;
        let body = Received::read(stream, &head);
        Ok(Self { head, body })
    }
}

/// The part of a body that arrived.
pub struct Received {
    /// Length of the received body in bytes, without framing.
    pub bytes: u64,
    /// SHA-256 of all bytes, in hexadecimal digits.
    pub sha256: String,
    /// The first 256 KiB.
    pub start: Vec<u8>,
    /// How the body ended.
    pub end: End,
}

impl Received {
    fn read(stream: &mut impl BufRead, head: &Head) -> Self {
        let mut sink = Sink::default();
        let ended = match (head.header("transfer-encoding"), head.header("content-length")) {
            (Some("chunked"), None) => read_chunks(stream, &mut sink),
            (None, Some(length)) => match length.parse() {
                Ok(length) => read_exactly(stream, length, &mut sink),
                Err(_) => Err(Cut::BadFraming(format!("Content-Length: {length}"))),
            },
            (encoding, length) => Err(Cut::BadFraming(format!(
                "Transfer-Encoding: {encoding:?}, Content-Length: {length:?}"
            ))),
        };
        sink.received(ended)
    }

    /// Whether the framing shows that the body is complete.
    pub fn is_complete(&self) -> bool {
        self.end == End::Complete
    }

    /// The first 256 KiB as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.start).into_owned()
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let start: String = text.chars().take(200).collect();
        write!(f, "{} bytes, {:?}, {start:?}…", self.bytes, self.end)
    }
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last chunk, or the last byte of `Content-Length`, arrived.
    Complete,
    /// Anything else.
    Incomplete(Cut),
}

/// How a connection ended, or why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// With close_notify. A client that treats the end of the connection as the end of the message
    /// would take the message for complete.
    CloseNotify,
    /// FIN without close_notify.
    NoCloseNotify,
    /// RST.
    Reset,
    /// The connection did not end; the bytes are not valid HTTP.
    BadFraming(String),
    /// Another error of the socket or of TLS, for example an alert.
    Other(String),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        assert!(!is_timeout(&error), "the proxy neither sends nor closes");
        if error.get_ref().is_some_and(|it| it.is::<Ended>()) {
            return Self::CloseNotify;
        }
        let kind = error.kind();
        if kind == io::ErrorKind::UnexpectedEof {
            Self::NoCloseNotify
        } else if kind == io::ErrorKind::ConnectionReset {
            Self::Reset
        } else {
            Self::Other(error.to_string())
        }
    }
}

/// The connection ended with close_notify before the message was complete.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection ended")
    }
}

impl std::error::Error for Ended {}

impl From<Ended> for io::Error {
    fn from(ended: Ended) -> Self {
        Self::other(ended)
    }
}

fn read_chunks(stream: &mut impl BufRead, sink: &mut Sink) -> Result<(), Cut> {
    loop {
        let line = read_line(stream)?;
        let is_hex = line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(&line, 16).ok().filter(|_| is_hex);
        let Some(size) = size else {
            return Err(Cut::BadFraming(format!("chunk size {line:?}")));
        };
        read_exactly(stream, size, sink)?;
        let line = read_line(stream)?;
        if !line.is_empty() {
            return Err(Cut::BadFraming(format!("{line:?} after a chunk")));
        }
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_exactly(stream: &mut impl BufRead, mut left: u64, sink: &mut Sink) -> Result<(), Cut> {
    while left > 0 {
        let piece = stream.fill_buf()?;
        if piece.is_empty() {
            return Err(Cut::CloseNotify);
        }
        let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink.take(&piece[..n]);
        stream.consume(n);
        left -= n as u64;
    }
    Ok(())
}

/// Reads a line, which must end in CR LF, and returns it without them.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(KEPT as u64).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None if line.ends_with(b"\n") || line.len() == KEPT => {
            Err(not_http(&String::from_utf8_lossy(&line)))
        }
        None => Err(Ended.into()),
    }
}

fn not_http(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

struct Sink {
    bytes: u64,
    hash: digest::Context,
    start: Vec<u8>,
}

impl Default for Sink {
    fn default() -> Self {
        Self { bytes: 0, hash: digest::Context::new(&digest::SHA256), start: Vec::new() }
    }
}

impl Sink {
    fn take(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
        let room = KEPT - self.start.len();
        self.start.extend_from_slice(&piece[..room.min(piece.len())]);
    }

    fn received(self, ended: Result<(), Cut>) -> Received {
        Received {
            bytes: self.bytes,
            sha256: hex(self.hash.finish().as_ref()),
            start: self.start,
            end: ended.map_or_else(End::Incomplete, |()| End::Complete),
        }
    }
}

/// The proxy's TLS alert that caused an error, if one did.
pub fn alert_in(error: &io::Error) -> Option<AlertDescription> {
    let error = error.get_ref()?.downcast_ref()?;
    if let rustls::Error::AlertReceived(alert) = error { Some(*alert) } else { None }
}
