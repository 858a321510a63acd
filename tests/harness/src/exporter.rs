//! An exporter as a script: raw bytes on a real socket, including faults.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use tempfile::TempDir;

use crate::{
    PATIENCE,
    body::Body,
    pki::{BOTH_VERSIONS, Pki},
};

/// The size limit of a request head that an exporter reads.
const MAX_HEAD: usize = 64 * 1024;

/// A scripted exporter on a free port or on its own Unix socket.
///
/// The script runs once for each connection, in a separate thread. If it returns an error, for
/// example because the proxy has closed the connection, the connection ends. Dropping the exporter
/// closes its listener.
pub struct Exporter {
    place: Place,
    shared: Arc<Shared>,
}

enum Place {
    Tcp(SocketAddr),
    Tls(SocketAddr, PathBuf),
    Unix { path: PathBuf, _folder: TempDir },
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    connections: Mutex<usize>,
    stopped: AtomicBool,
}

impl Exporter {
    /// Listens on 127.0.0.1.
    pub fn start(script: impl Script) -> Self {
        Self::on_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script)
    }

    /// Listens on ::1.
    pub fn start_on_ipv6(script: impl Script) -> Self {
        Self::on_tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), script)
    }

    /// Listens on 127.0.0.1 with the server certificate of `pki`.
    pub fn start_tls(pki: &Pki, script: impl Script) -> Self {
        Self::start_tls_with(pki, pki.server(BOTH_VERSIONS), script)
    }

    /// Listens on 127.0.0.1 with this TLS configuration.
    pub fn start_tls_with(pki: &Pki, tls: Arc<ServerConfig>, script: impl Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let place = Place::Tls(address, pki.path("ca.pem"));
        Self::serve(place, script, move || Wire::tls(listener.accept()?.0, tls.clone()))
    }

    /// Listens on a Unix socket in a temporary folder.
    pub fn start_on_unix_socket(script: impl Script) -> Self {
        let folder = TempDir::with_prefix("scrapegate-exporter-").expect("a temporary folder");
        let path = folder.path().join("exporter.sock");
        let listener = UnixListener::bind(&path).expect("a new socket");
        Self::serve(Place::Unix { path, _folder: folder }, script, move || {
            Ok(Wire::Unix(listener.accept()?.0))
        })
    }

    fn on_tcp(address: SocketAddr, script: impl Script) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        Self::serve(Place::Tcp(address), script, move || Wire::tcp(listener.accept()?.0))
    }

    fn serve(
        place: Place,
        script: impl Script,
        accept: impl Fn() -> io::Result<Wire> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let exporter = Self { place, shared: shared.clone() };
        thread::spawn(move || {
            loop {
                let accepted = accept();
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(wire) = accepted else { continue };
                *lock(&shared.connections) += 1;
                let mut conversation = Conversation { wire, shared: shared.clone() };
                let script = script.clone();
                thread::spawn(move || {
                    // An error means that the proxy has closed the connection. The test checks that
                    // on the proxy's side.
                    let _ = script(&mut conversation);
                });
            }
        });
        exporter
    }

    /// The exporter's section of the exporters file: name, `enabled`, address and path. Keys
    /// appended to the text belong to this section.
    pub fn section(&self, name: &str) -> String {
        let place = match &self.place {
            Place::Tcp(address) => {
                format!("method = http\nhost = {}\nport = {}\n", address.ip(), address.port())
            }
            Place::Tls(address, ca) => format!(
                "method = https\nhost = {}\nport = {}\nca-file = {}\nserver-name = localhost\n",
                address.ip(),
                address.port(),
                ca.display()
            ),
            Place::Unix { path, .. } => format!("method = http\nsocket = {}\n", path.display()),
        };
        format!("\n[{name}]\nenabled = True\n{place}path = /metrics\n")
    }

    /// The address of the exporter.
    ///
    /// # Panics
    /// If the exporter is on a Unix socket.
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) | Place::Tls(address, _) => *address,
            Place::Unix { path, .. } => panic!("{} is not a network address", path.display()),
        }
    }

    /// The heads of all requests so far, including their empty line.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread. An error means that the thread has ended already.
        let _ = match &self.place {
            Place::Tcp(address) | Place::Tls(address, _) => TcpStream::connect(address).map(drop),
            Place::Unix { path, .. } => UnixStream::connect(path).map(drop),
        };
    }
}

/// The behavior of an exporter on one connection.
pub trait Script: Fn(&mut Conversation) -> io::Result<()> + Send + Sync + 'static {}

impl<F: Fn(&mut Conversation) -> io::Result<()> + Send + Sync + 'static> Script for F {}

/// The framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunks of this many bytes, each sent in one write. Go's net/http uses 4096.
    Chunked(usize),
    /// `Content-Length`.
    ContentLength,
    /// The end of the connection, with close_notify over TLS.
    UntilClose,
}

impl Framing {
    /// The header lines that announce a body of `len` bytes with this framing.
    pub fn header(self, len: u64) -> String {
        match self {
            Self::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Self::ContentLength => format!("Content-Length: {len}\r\n"),
            Self::UntilClose => "Connection: close\r\n".to_owned(),
        }
    }
}

/// One connection of the exporter, with the operations that a script needs.
pub struct Conversation {
    wire: Wire,
    shared: Arc<Shared>,
}

impl Conversation {
    /// Reads a request up to its empty line and records it.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::UnexpectedEof`] if the connection ends before the
    /// empty line.
    pub fn read_request(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.wire.stream().read_exact(&mut byte)?;
            head.push(byte[0]);
            if head.len() > MAX_HEAD {
                return Err(io::Error::other("a request head without an end"));
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        lock(&self.shared.requests).push(head.clone());
        Ok(head)
    }

    /// Sends exactly these bytes.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream().write_all(bytes.as_ref())?;
        self.wire.stream().flush()
    }

    /// Answers `200 OK` with `body`. `headers` are complete header lines.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn answer(&mut self, headers: &str, framing: Framing, mut body: Body) -> io::Result<()> {
        let framing_header = framing.header(body.remaining());
        self.send(format!("HTTP/1.1 200 OK\r\n{headers}{framing_header}\r\n"))?;
        match framing {
            Framing::Chunked(size) => self.send_chunks(&mut body, size),
            Framing::ContentLength => self.send_plain(&mut body),
            Framing::UntilClose => {
                self.send_plain(&mut body)?;
                self.end()
            }
        }
    }

    fn send_chunks(&mut self, body: &mut Body, size: usize) -> io::Result<()> {
        let mut data = vec![0; size];
        let mut chunk = Vec::with_capacity(size + 16);
        loop {
            let n = body.read(&mut data)?;
            chunk.clear();
            write!(chunk, "{n:x}\r\n")?;
            chunk.extend_from_slice(&data[..n]);
            chunk.extend_from_slice(b"\r\n");
            self.send(&chunk)?;
            if n == 0 {
                return Ok(());
            }
        }
    }

    fn send_plain(&mut self, body: &mut Body) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            match body.read(&mut piece)? {
                0 => return Ok(()),
                n => self.send(&piece[..n])?,
            }
        }
    }

    /// Closes the sending side in order: close_notify over TLS, then FIN.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn end(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Wire::Unix(stream) => stream.shutdown(Shutdown::Write),
            Wire::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
        }
    }

    /// Closes the sending side with only a FIN: over TLS without close_notify.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn cut(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Wire::Unix(stream) => stream.shutdown(Shutdown::Write),
            Wire::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
        }
    }

    /// Makes the end of this script reset the connection: RST instead of FIN.
    ///
    /// # Errors
    /// Errors of the socket. A Unix socket cannot be reset.
    pub fn reset_at_end(&mut self) -> io::Result<()> {
        self.wire.tcp_socket()?.set_linger(Some(Duration::ZERO))
    }

    /// Limits the kernel's send buffer of this connection to about this many bytes. Otherwise it
    /// grows to megabytes.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn bound_send_buffer(&mut self, bytes: usize) -> io::Result<()> {
        self.wire.tcp_socket()?.set_send_buffer_size(bytes)
    }

    /// Sends nothing and waits until the proxy closes the connection. Returns the time at which it
    /// did.
    ///
    /// # Panics
    /// If it has not after [`PATIENCE`].
    pub fn wait_until_closed(&mut self) -> Instant {
        let mut rest = [0; 4096];
        loop {
            match self.wire.stream().read(&mut rest) {
                Ok(1..) => {}
                // The process was stopped and continued.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => panic!("the proxy keeps the connection"),
                Ok(0) | Err(_) => return Instant::now(),
            }
        }
    }
}

/// A gate at which a script waits until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Opens the gate permanently, for scripts that wait now and later.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn wait(&self) {
        let (open, wake_up) = &*self.0;
        let open = wake_up
            .wait_timeout_while(lock(open), PATIENCE, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        assert!(*open, "the gate was not opened");
    }
}

enum Wire {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Wire {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Tcp(stream))
    }

    fn tls(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    fn tcp_socket(&self) -> io::Result<SockRef<'_>> {
        match self {
            Self::Tcp(stream) => Ok(SockRef::from(stream)),
            Self::Tls(stream) => Ok(SockRef::from(&stream.sock)),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.as_mut(),
            Self::Unix(stream) => stream,
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// Whether a blocking read timed out, which says nothing about the other side.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
