//! The minimum for a proxy in user space: a blocking thread for each connection that reads from the
//! exporter into one buffer and writes the bytes through rustls. It parses no HTTP, has no
//! deadline, and sends the exporter's framing to the scraper unchanged.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection};

use crate::{Result, credentials::Credentials};

/// Size of one read in bytes. Larger buffers leave the L2 cache between the read and the
/// encryption.
const READ: usize = 64 * 1024;

/// Serves until the process is killed. `folder` contains the credentials and the two addresses, in
/// `floor.listen` and `floor.exporter`.
pub(crate) fn serve(folder: &Path) -> Result<()> {
    let address = |file: &str| -> Result<SocketAddr> {
        Ok(std::fs::read_to_string(folder.join(file))?.parse()?)
    };
    let (listen, exporter) = (address("floor.listen")?, address("floor.exporter")?);
    let config = Credentials::read(folder).floor()?;
    for stream in TcpListener::bind(listen)?.incoming() {
        let (stream, config) = (stream?, Arc::clone(&config));
        thread::spawn(move || relay_scrapes(stream, config, exporter));
    }
    Ok(())
}

fn relay_scrapes(
    mut scraper: TcpStream,
    config: Arc<ServerConfig>,
    exporter: SocketAddr,
) -> Result<()> {
    scraper.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config)?;
    tls.set_buffer_limit(None);
    let mut buffer = vec![0; READ];
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
