//! The proxy between two threads in this process, on real sockets of 127.0.0.1.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned, pki_types::ServerName};
use scrapegate::{
    common::file::FileSet,
    config::{self, Config, Sources},
    downstream::serving::ListenerMode,
    service::{
        assets::{self, Assets},
        server::{Handle, Server},
    },
};
use tempfile::TempDir;

use crate::{message::Message, pki::Pki};

/// The end of every chunked response.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Starts an exporter that answers each connection with the same message, and pauses for `pause`
/// after each piece.
///
/// Its thread ends with the process.
pub fn exporter(message: Message, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // If the proxy has closed the connection, the scraper notices.
            let _ = answer(stream, &message, pause);
        }
    });
    address
}

fn answer(mut stream: TcpStream, message: &Message, pause: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut length) = ([0; 4096], 0);
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
    }
    message.pieces().try_for_each(|piece| {
        stream.write_all(piece)?;
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        Ok(())
    })
}

/// A configuration with the exporter `n`, and the files that it names.
pub struct Loaded {
    config: Config,
    assets: Assets,
    files: TempDir,
}

impl Loaded {
    /// The TLS configuration of the proxy.
    pub fn tls(self) -> Arc<ServerConfig> {
        match self.assets.mode {
            ListenerMode::Tls(tls) => tls.config,
            ListenerMode::PlainHttp | ListenerMode::NotEnrolled => {
                panic!("the configuration is for TLS")
            }
        }
    }
}

/// Loads a configuration with one worker, the certificates of `pki`, and the exporter `n` on this
/// port.
///
/// # Panics
///
/// If the configuration has an error.
pub fn load(pki: &Pki, port: u16) -> Loaded {
    let files = TempDir::with_prefix("scrapegate-bench-").expect("a temporary folder");
    let config = files.path().join("config.ini");
    let exporters = files.path().join("prometheus_exporters.ini");
    std::fs::write(&config, pki.config_ini("worker-threads = 1\n")).expect("written");
    let section = format!(
        "[n]\nenabled = True\nmethod = http\nhost = 127.0.0.1\nport = {port}\npath = /metrics\n"
    );
    std::fs::write(&exporters, section).expect("written");
    let sources = Sources {
        config: Some(config),
        exporters: Some(exporters),
        listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
    };
    let (config, findings) = config::load(&sources);
    let config = config.unwrap_or_else(|| panic!("{findings}"));
    let (assets, findings) = assets::load(&config, &mut FileSet::default());
    let assets = assets.unwrap_or_else(|| panic!("{findings}"));
    Loaded { config, assets, files }
}

/// A running proxy with one worker in front of the exporter `n`.
pub struct Proxy {
    address: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    _files: TempDir,
}

impl Proxy {
    /// Starts the proxy with the certificates of `pki`.
    ///
    /// # Panics
    ///
    /// If the proxy does not start.
    pub fn start(pki: &Pki, exporter: SocketAddr) -> Self {
        let Loaded { config, assets, files } = load(pki, exporter.port());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = {
            let _inside = runtime.enter();
            Server::bind(&config, assets).expect("a server")
        };
        let (address, handle) = (server.address(), server.handle());
        let thread = Some(thread::spawn(move || runtime.block_on(server.run())));
        Self { address, handle, thread, _files: files }
    }

    /// The address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            // A panic of the proxy has already been reported.
            let _ = thread.join();
        }
    }
}

/// A connection of a scraper that reads everything and only looks for the end.
pub struct Scraper {
    stream: StreamOwned<ClientConnection, TcpStream>,
    piece: Vec<u8>,
}

/// The result of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Scraped {
    /// From the request to the first bytes of the response.
    pub first_byte: Duration,
}

impl Scraper {
    /// Connects, and completes the handshake.
    ///
    /// # Panics
    ///
    /// If the connection or the handshake fails.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("a handshake");
        }
        Self { stream: StreamOwned::new(tls, socket), piece: vec![0; 256 * 1024] }
    }

    /// One scrape whose body has `length` bytes.
    ///
    /// # Panics
    ///
    /// If the response has another status, or ends too early.
    pub fn scrape(&mut self, length: usize) -> Scraped {
        let begun = Instant::now();
        self.stream.write_all(REQUEST).expect("a request sent");
        let first = self.read();
        let first_byte = begun.elapsed();
        let head = self.piece[..first].windows(4).position(|end| end == b"\r\n\r\n");
        let head = head.expect("the head with the first bytes") + 4;
        assert!(self.piece.starts_with(b"HTTP/1.1 200 "), "another status");
        let chunked = self.piece[..head].windows(7).any(|word| word == b"chunked");

        let mut got = first - head;
        let mut last = self.piece[head..first].to_vec();
        while if chunked { !last.ends_with(LAST_CHUNK) } else { got < length } {
            let count = self.read();
            got += count;
            last.extend_from_slice(&self.piece[count.saturating_sub(LAST_CHUNK.len())..count]);
            last.drain(..last.len().saturating_sub(LAST_CHUNK.len()));
        }
        assert!(got >= length, "{got} of {length} bytes");
        Scraped { first_byte }
    }

    fn read(&mut self) -> usize {
        let count = self.stream.read(&mut self.piece).expect("more of the response");
        assert!(count > 0, "the response ended too early");
        count
    }
}
