//! The exporter: sends one large and one small body in chunks of 4 KiB, and notes how long it was
//! busy.

use std::{
    io::{BufRead, BufReader, Write},
    mem,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::side_by_side::{Result, programs::Source};

/// The names of the bodies.
pub(crate) const LARGE: &str = "large";
pub(crate) const SMALL: &str = "small";

const CHUNK: usize = 4096;

/// The exporter. It runs until the process ends.
pub(crate) struct Exporter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// The large body, in chunks.
    large: Vec<Vec<u8>>,
    /// From each request to the last byte that the kernel accepted.
    busy: Mutex<Vec<Duration>>,
}

impl Exporter {
    pub(crate) fn start(address: IpAddr, body: &str) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let large = body.as_bytes().chunks(CHUNK).map(framed).collect();
        let shared = Arc::new(Shared { large, busy: Mutex::default() });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                // A proxy may close its connection at any time, so errors are ignored.
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// What the exporter serves.
    pub(crate) fn sources(&self) -> [Source<'static>; 2] {
        [LARGE, SMALL].map(|name| Source { name, address: self.address, https: false })
    }

    /// How long the exporter was busy with each scrape since the last call.
    pub(crate) fn take_busy(&self) -> Vec<Duration> {
        mem::take(&mut self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn serve(&self, mut stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream);
        loop {
            let (mut path, mut line) = (String::new(), String::new());
            while line != "\r\n" {
                line.clear();
                if requests.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if path.is_empty() {
                    line.split(' ').nth(1).ok_or("no request line")?.clone_into(&mut path);
                }
            }
            let begun = Instant::now();
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                  Transfer-Encoding: chunked\r\n\r\n",
            )?;
            let count = if path.ends_with(LARGE) { self.large.len() } else { 1 };
            // One call for each chunk, as Go's net/http does.
            for chunk in &self.large[..count] {
                stream.write_all(chunk)?;
            }
            stream.write_all(b"0\r\n\r\n")?;
            self.busy.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
        }
    }
}

fn framed(chunk: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()
}
