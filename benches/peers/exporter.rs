//! The synthetic exporter: blocking threads that write prepared bytes.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use scrapegate_harness::side_by_side::{credentials::Credentials, programs};

use crate::{
    Result,
    workload::{Framing, SOURCES, Source, Writes},
};

/// Number of stored body bytes. A longer body repeats them.
const SEGMENT: u64 = 10 * 1024 * 1024;

/// The addresses of the exporter. It runs until the process ends.
pub(crate) struct Exporter {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

/// A response, ready to be sent.
struct Answer {
    head: Vec<u8>,
    segment: Vec<u8>,
    repeats: u64,
    tail: &'static [u8],
    write_size: usize,
    pause: Option<Duration>,
}

/// The answers to all requests, by path.
#[derive(Clone)]
pub(crate) struct Answers(Arc<HashMap<&'static str, Answer>>);

impl Answers {
    pub(crate) fn prepare() -> Self {
        let answers = SOURCES.iter().map(|source| (source.name, Answer::new(source)));
        Self(Arc::new(answers.collect()))
    }
}

impl Exporter {
    pub(crate) fn start(
        answers: &Answers,
        address: IpAddr,
        credentials: &Credentials,
    ) -> Result<Self> {
        let tls = credentials.exporter()?;
        let Answers(answers) = answers;
        Ok(Self {
            http: listen(address, Arc::clone(answers), None)?,
            https: listen(address, Arc::clone(answers), Some(tls))?,
        })
    }

    /// All sources, with their addresses.
    pub(crate) fn sources(&self) -> Vec<programs::Source<'static>> {
        let with_address = |source: &'static Source| {
            let address = if source.https { self.https } else { self.http };
            programs::Source { name: source.name, address, https: source.https }
        };
        SOURCES.iter().map(with_address).collect()
    }
}

impl Answer {
    fn new(source: &Source) -> Self {
        let segment_length = source.length.min(SEGMENT);
        assert_eq!(source.length % segment_length, 0, "whole segments");
        let body = body(segment_length, source.gzip);
        let mut head = String::from(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n",
        );
        if source.gzip {
            head.push_str("Content-Encoding: gzip\r\n");
        }
        let (segment, tail, chunk): (_, &[u8], _) = match source.framing {
            Framing::Chunked(size) => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                (
                    in_chunks(&body, size),
                    b"0\r\n\r\n",
                    in_chunks(&body[..size.min(body.len())], size).len(),
                )
            }
            Framing::Length => {
                let _ = write!(head, "Content-Length: {}\r\n", source.length);
                (body, b"", 64 * 1024)
            }
        };
        head.push_str("\r\n");
        let (write_size, pause) = match source.writes {
            Writes::ByChunk => (chunk, None),
            Writes::Bytes(size) => (size, None),
            Writes::Trickle(pause) => (chunk, Some(pause)),
        };
        let repeats = source.length / segment_length;
        Self { head: head.into(), segment, repeats, tail, write_size, pause }
    }

    fn send(&self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&self.head)?;
        for _ in 0..self.repeats {
            for write in self.segment.chunks(self.write_size) {
                stream.write_all(write)?;
                if let Some(pause) = self.pause {
                    thread::sleep(pause);
                }
            }
        }
        stream.write_all(self.tail)?;
        stream.flush()
    }
}

/// Lines of the text format, or bytes that cannot be compressed.
fn body(length: u64, gzip: bool) -> Vec<u8> {
    let length = usize::try_from(length).expect("a segment fits into memory");
    let mut body = Vec::with_capacity(length + 200);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while body.len() < length {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if gzip {
            body.extend_from_slice(&state.to_le_bytes());
        } else {
            let line = format!(
                "http_requests_total{{handler=\"/api/{}\",code=\"200\",instance=\"{:08x}\"}} {}\n",
                state % 97,
                state >> 32,
                state % 1_000_003
            );
            body.extend_from_slice(line.as_bytes());
        }
    }
    body.truncate(length);
    body
}

fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + body.len() / size * 10 + 20);
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed
}

fn listen(
    address: IpAddr,
    answers: Arc<HashMap<&'static str, Answer>>,
    tls: Option<Arc<ServerConfig>>,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    // The standard library's 128 waiting connections are too few for 256 scrapers at once: the kernel
    // would drop some, and a proxy would try again only a second later.
    SockRef::from(&listener).listen(1024)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answers, tls) = (Arc::clone(&answers), tls.clone());
            // Some workloads close the connection in the middle, so errors are ignored.
            thread::spawn(move || serve(stream, &answers, tls));
        }
    });
    Ok(address)
}

fn serve(
    stream: TcpStream,
    answers: &HashMap<&'static str, Answer>,
    tls: Option<Arc<ServerConfig>>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => answer_requests(stream, answers),
        Some(config) => {
            answer_requests(StreamOwned::new(ServerConnection::new(config)?, stream), answers)
        }
    }
}

fn answer_requests(
    stream: impl Read + Write,
    answers: &HashMap<&'static str, Answer>,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut close, mut line) = (String::new(), false, String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim_end();
            if path.is_empty() {
                text.split(' ').nth(1).ok_or("no request line")?.clone_into(&mut path);
            } else if text.is_empty() {
                break;
            } else if text.eq_ignore_ascii_case("connection: close") {
                close = true;
            }
        }
        let name = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        // Many exporters of one proxy, such as `small-17`, have the same body.
        let answer = answers
            .get(name)
            .or_else(|| answers.get(name.rsplit_once('-')?.0))
            .ok_or_else(|| format!("no source {name}"))?;
        answer.send(stream.get_mut())?;
        if close {
            return Ok(());
        }
    }
}
