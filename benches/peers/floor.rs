//! The minimum for a proxy in user space: a blocking thread for each connection that reads from the
//! exporter into one buffer and writes the bytes through rustls. It parses no HTTP, has no
//! deadline, and sends the exporter's framing to the scraper unchanged.

use std::{
    env,
    error::Error,
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection};

use scrapegate_harness::side_by_side::credentials::Credentials;

use crate::Result;

/// The sizes of one read that are compared, in bytes. A larger buffer needs fewer system calls, but
/// leaves the L2 cache between the read and the encryption. Which one is best depends on the
/// processor and on the congestion control.
pub(crate) const READ_SIZES: [usize; 4] = [64 << 10, 128 << 10, 256 << 10, 512 << 10];

/// What the program needs. Its text form is an argument of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    credentials: PathBuf,
    listen: SocketAddr,
    exporter: SocketAddr,
    /// In bytes.
    read_size: usize,
}

impl Floor {
    pub(crate) fn new(
        credentials: &Path,
        listen: SocketAddr,
        exporter: SocketAddr,
        read_size: usize,
    ) -> Self {
        Self { credentials: credentials.to_owned(), listen, exporter, read_size }
    }

    /// The command that serves this.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--serve-floor").arg(self.to_string());
        Ok(command)
    }

    /// Serves until the process is killed.
    pub(crate) fn serve(&self) -> Result<()> {
        let Self { exporter, read_size, .. } = *self;
        let config = Credentials::read(&self.credentials).floor()?;
        for stream in TcpListener::bind(self.listen)?.incoming() {
            let (stream, config) = (stream?, Arc::clone(&config));
            thread::spawn(move || relay_scrapes(stream, config, exporter, read_size));
        }
        Ok(())
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credentials, listen, exporter, read_size } = self;
        write!(f, "{listen},{exporter},{read_size},{}", credentials.display())
    }
}

impl FromStr for Floor {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.splitn(4, ',').collect();
        let [listen, exporter, read_size, credentials] = parts[..] else {
            return Err("not the four arguments of the floor program".into());
        };
        Ok(Self {
            credentials: credentials.into(),
            listen: listen.parse()?,
            exporter: exporter.parse()?,
            read_size: read_size.parse()?,
        })
    }
}

fn relay_scrapes(
    mut scraper: TcpStream,
    config: Arc<ServerConfig>,
    exporter: SocketAddr,
    read_size: usize,
) -> Result<()> {
    scraper.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config)?;
    tls.set_buffer_limit(None);
    let mut buffer = vec![0; read_size];
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            let count = rustls::Stream::new(&mut tls, &mut scraper).read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..count]);
        }
        let mut upstream = TcpStream::connect(exporter)?;
        upstream.write_all(&request)?;
        // The exporter closes the connection after its answer when it sees our FIN.
        upstream.shutdown(Shutdown::Write)?;
        loop {
            let count = upstream.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            tls.writer().write_all(&buffer[..count])?;
            send(&mut tls, &mut scraper)?;
        }
    }
}

fn send(tls: &mut ServerConnection, scraper: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(scraper)?;
    }
    Ok(())
}
