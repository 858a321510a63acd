//! A scraper in memory that speaks TLS.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::io::ReadBuf;

use super::counted::Peer;

/// Length of a TLS 1.3 record with 16 KiB of payload: the payload, the content type, and the
/// authentication tag (RFC 8446 §5.2).
const FULL: usize = 16 * 1024 + 1 + 16;
const RECORD_HEADER: usize = 5;

/// TLS records that a scraper has received since its handshake.
#[derive(Debug, Default)]
pub struct Records {
    all: AtomicUsize,
    full: AtomicUsize,
}

impl Records {
    /// The number of records.
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// The number of records with 16 KiB of payload.
    pub fn full(&self) -> usize {
        self.full.load(Ordering::Relaxed)
    }
}

/// A scraper that runs inside the proxy's reads and writes. Its own time must not count as the
/// proxy's; [`Scraper::time`] returns it.
#[derive(Debug)]
pub struct Scraper {
    tls: ClientConnection,
    /// Sent after the handshake.
    request: &'static [u8],
    records: Arc<Records>,
    /// Bytes for the proxy to read.
    outgoing: Vec<u8>,
    /// The part of a record's header that has arrived, and how many bytes of the record are
    /// missing.
    header: Vec<u8>,
    left_of_record: usize,
    plaintext: Vec<u8>,
    reader: Option<Waker>,
    nanoseconds: Arc<AtomicU64>,
}

impl Scraper {
    /// A scraper that sends `request` after its handshake.
    pub fn new(config: Arc<ClientConfig>, request: &'static [u8]) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut scraper = Self {
            tls: ClientConnection::new(config, name).expect("a configuration that works"),
            request,
            records: Arc::default(),
            outgoing: Vec::new(),
            header: Vec::new(),
            left_of_record: 0,
            plaintext: vec![0; 64 * 1024],
            reader: None,
            nanoseconds: Arc::default(),
        };
        scraper.prepare().expect("the first flight");
        scraper
    }

    /// Counts received records in `records`.
    pub fn counting(self, records: Arc<Records>) -> Self {
        Self { records, ..self }
    }

    /// Returns a function for the time that the scraper itself has used so far.
    pub fn time(&self) -> impl Fn() -> Duration + use<> {
        let nanoseconds = Arc::clone(&self.nanoseconds);
        move || Duration::from_nanos(nanoseconds.load(Ordering::Relaxed))
    }

    /// Writes the records that are to be sent.
    fn prepare(&mut self) -> io::Result<()> {
        if !self.tls.is_handshaking() {
            self.tls.writer().write_all(std::mem::take(&mut self.request))?;
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing)?;
        }
        if let Some(reader) = self.reader.take_if(|_| !self.outgoing.is_empty()) {
            reader.wake();
        }
        Ok(())
    }

    fn count_records(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left_of_record > 0 {
                let count = self.left_of_record.min(bytes.len());
                self.left_of_record -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (RECORD_HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if let [_, _, _, high, low] = self.header[..] {
                self.left_of_record = usize::from(u16::from_be_bytes([high, low]));
                self.records.all.fetch_add(1, Ordering::Relaxed);
                self.records
                    .full
                    .fetch_add(usize::from(self.left_of_record == FULL), Ordering::Relaxed);
                self.header.clear();
            }
        }
    }
}

impl Peer for Scraper {
    const VECTORED: bool = true;

    fn send(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()> {
        if self.outgoing.is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.outgoing.len().min(buf.remaining());
        buf.put_slice(&self.outgoing[..count]);
        self.outgoing.drain(..count);
        Poll::Ready(())
    }

    fn receive(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let begun = Instant::now();
        if !self.tls.is_handshaking() {
            self.count_records(bytes);
        }
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            while matches!(self.tls.reader().read(&mut self.plaintext), Ok(1..)) {}
        }
        self.prepare()?;
        let taken = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(taken, Ordering::Relaxed);
        Ok(())
    }
}
