//! A blocking scraper that reads complete responses, checks their length, and measures the time.

use std::{
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::Result;

/// Size of a read from the socket and of a read from TLS, in bytes.
const BUFFER: usize = 256 * 1024;

/// How long one scrape took.
#[derive(Clone, Copy, Debug)]
pub struct Scraped {
    /// From the request to the first byte of the body.
    pub first_byte: Duration,
    /// From the request to the last byte.
    pub total: Duration,
    /// Length of the body in bytes, without framing.
    pub bytes: u64,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Download {
    /// Times and length.
    pub scraped: Scraped,
    /// The value of `Content-Encoding`, or an empty string.
    pub encoding: String,
    /// The body without framing, encoded as above.
    pub body: Vec<u8>,
}

/// A connection to a proxy, or to the exporter itself.
pub struct Scraper {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// rustls reads at most 4 KiB at a time. This wrapper reads more from the socket.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

impl Scraper {
    /// Connects and, with a TLS configuration, completes the handshake.
    ///
    /// # Errors
    ///
    /// Fails if the server does not accept the connection or the certificate.
    pub fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut socket = Buffered(BufReader::with_capacity(BUFFER, socket));
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                let mut connection = ClientConnection::new(Arc::clone(config), name)?;
                while connection.is_handshaking() {
                    connection.complete_io(&mut socket)?;
                }
                Box::new(StreamOwned::new(connection, socket))
            }
        };
        Ok(Self { stream, buffer: vec![0; BUFFER] })
    }

    /// Requests `path` and reads the complete response.
    ///
    /// # Errors
    ///
    /// Fails if the status is not 200, or if the response ends early.
    pub fn scrape(&mut self, path: &str) -> Result<Scraped> {
        let begun = Instant::now();
        let mut answer = self.ask(path)?;
        let first_byte = begun.elapsed();
        self.read_to_end(&mut answer, |_| {})?;
        Ok(Scraped { first_byte, total: begun.elapsed(), bytes: answer.bytes })
    }

    /// Sends a `POST` without a body, and reads the complete response.
    ///
    /// # Errors
    ///
    /// Fails if the status is not 200, or if the response ends early.
    pub fn post(&mut self, path: &str) -> Result<Scraped> {
        let begun = Instant::now();
        self.stream.write_all(
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                .as_bytes(),
        )?;
        let (mut answer, _) = self.read_head(&mut |_| {})?;
        let first_byte = begun.elapsed();
        self.read_to_end(&mut answer, |_| {})?;
        Ok(Scraped { first_byte, total: begun.elapsed(), bytes: answer.bytes })
    }

    /// Requests `path` with this `Accept-Encoding`, and keeps the complete body.
    ///
    /// # Errors
    ///
    /// Fails if the status is not 200, or if the response ends early.
    pub fn download(&mut self, path: &str, accept_encoding: &str) -> Result<Download> {
        let begun = Instant::now();
        let mut body = Vec::new();
        let (mut answer, head) =
            self.ask_for(path, accept_encoding, |bytes| body.extend_from_slice(bytes))?;
        let first_byte = begun.elapsed();
        self.read_to_end(&mut answer, |bytes| body.extend_from_slice(bytes))?;
        let scraped = Scraped { first_byte, total: begun.elapsed(), bytes: answer.bytes };
        let encoding = field(&head, "content-encoding").unwrap_or_default().to_owned();
        Ok(Download { scraped, encoding, body })
    }

    /// Requests `path` and reads only up to the first bytes of the body.
    ///
    /// # Errors
    ///
    /// Fails if the status is not 200, or if the response ends early.
    pub fn ask(&mut self, path: &str) -> Result<Answer> {
        // Without `Accept-Encoding`, Go's client requests gzip itself and decompresses the
        // response.
        Ok(self.ask_for(path, "gzip", |_| {})?.0)
    }

    fn ask_for(
        &mut self,
        path: &str,
        accept_encoding: &str,
        mut keep: impl FnMut(&[u8]),
    ) -> Result<(Answer, String)> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
             Accept-Encoding: {accept_encoding}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes())?;
        self.read_head(&mut keep)
    }

    /// Reads the head, and up to the first bytes of the body.
    fn read_head(&mut self, keep: &mut impl FnMut(&[u8])) -> Result<(Answer, String)> {
        let mut head = Vec::new();
        let end = loop {
            let count = self.read()?;
            head.extend_from_slice(&self.buffer[..count]);
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let (head, body) = head.split_at(end);
        let head = String::from_utf8(head.to_vec())?;
        let mut answer = Answer::new(&head)?;
        answer.take(body, keep)?;
        while answer.bytes == 0 && !answer.done() {
            let count = self.read()?;
            answer.take(&self.buffer[..count], keep)?;
        }
        Ok((answer, head))
    }

    fn read_to_end(&mut self, answer: &mut Answer, mut keep: impl FnMut(&[u8])) -> Result<()> {
        while !answer.done() {
            let count = self.read()?;
            answer.take(&self.buffer[..count], &mut keep)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<usize> {
        match self.stream.read(&mut self.buffer)? {
            0 => Err("the answer was cut short".into()),
            count => Ok(count),
        }
    }
}

/// Counts the bytes of a body and finds its end.
pub struct Answer {
    framing: Framing,
    bytes: u64,
}

enum Framing {
    Length {
        left: u64,
    },
    /// The chunk size so far.
    ChunkSize(u64),
    /// The missing bytes of the chunk including its CR LF, and whether it is the last chunk.
    Chunk {
        left: u64,
        last: bool,
    },
    Done,
}

impl Answer {
    fn new(head: &str) -> Result<Self> {
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.lines().next().unwrap_or_default().into());
        }
        let length = field(head, "content-length").map(str::parse).transpose()?;
        let framing = length.map_or(Framing::ChunkSize(0), |left| Framing::Length { left });
        Ok(Self { framing, bytes: 0 })
    }

    fn done(&self) -> bool {
        matches!(self.framing, Framing::Done | Framing::Length { left: 0 })
    }

    fn take(&mut self, mut bytes: &[u8], keep: &mut impl FnMut(&[u8])) -> Result<()> {
        while let [first, rest @ ..] = bytes {
            match &mut self.framing {
                Framing::Done => return Err("bytes after the response".into()),
                Framing::Length { left } => {
                    self.bytes += bytes.len() as u64;
                    *left =
                        left.checked_sub(bytes.len() as u64).ok_or("a body that is too long")?;
                    keep(bytes);
                    return Ok(());
                }
                Framing::ChunkSize(size) => {
                    match first {
                        b'\r' => {}
                        b'\n' => {
                            let (size, last) = (*size, *size == 0);
                            self.framing = Framing::Chunk { left: size + 2, last };
                        }
                        digit => {
                            let digit = char::from(*digit).to_digit(16).ok_or("no chunk size")?;
                            *size = *size * 16 + u64::from(digit);
                        }
                    }
                    bytes = rest;
                }
                Framing::Chunk { left, last } => {
                    let count = bytes.len().min(usize::try_from(*left)?);
                    // The last two bytes are CR LF.
                    let of_body = count.min(usize::try_from(left.saturating_sub(2))?);
                    self.bytes += of_body as u64;
                    keep(&bytes[..of_body]);
                    *left -= count as u64;
                    if *left == 0 {
                        self.framing = if *last { Framing::Done } else { Framing::ChunkSize(0) };
                    }
                    bytes = &bytes[count..];
                }
            }
        }
        Ok(())
    }
}

/// The value of a header field.
fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then_some(value.trim())
    })
}
