//! An exporter's answers, ready to be sent.

use std::io::Read;

use bytes::Bytes;

use crate::body::{Body, Kind};

/// Limit for the stored bytes of a body; a longer body repeats them. They fit in the second-level
/// cache, so that no benchmark measures the memory of the exporter.
const BLOCK: usize = 64 * 1024;

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunks of this number of bytes.
    Chunked(usize),
    /// `Content-Length`.
    Length,
    /// The end of the connection.
    UntilClose,
}

impl Framing {
    /// The name in tables and reports.
    pub fn label(self) -> String {
        match self {
            Self::Chunked(size) => format!("chunked {} KiB", size / 1024),
            Self::Length => "Content-Length".to_owned(),
            Self::UntilClose => "until close".to_owned(),
        }
    }
}

/// A complete response of an exporter. Clones share their bytes.
#[derive(Clone, Debug)]
pub struct Message {
    /// The message is the head, then `repeats` times the block, then the tail.
    pub head: Bytes,
    /// A part of the body, with its framing.
    pub block: Bytes,
    /// How often the block is sent.
    pub repeats: usize,
    /// The end of the body. May be empty.
    pub tail: Bytes,
    /// Length of the body in bytes, without framing.
    pub length: usize,
}

impl Message {
    /// A response with a body of `length` bytes. Above 64 KiB, the length is rounded down to whole
    /// blocks of 64 KiB.
    pub fn new(kind: Kind, framing: Framing, length: usize) -> Self {
        Self::with_blocks(BLOCK, kind, framing, length)
    }

    /// Text with blocks of 256 KiB. The windows of compressors are smaller, so they find no block
    /// that they have seen before.
    pub fn to_compress(framing: Framing, length: usize) -> Self {
        Self::with_blocks(4 * BLOCK, Kind::Text, framing, length)
    }

    fn with_blocks(block: usize, kind: Kind, framing: Framing, length: usize) -> Self {
        let repeats = (length / block).max(1);
        let body_of_block = if repeats == 1 { length.min(block) } else { block };
        let length = body_of_block * repeats;
        let mut body = vec![0; body_of_block];
        let whole = u64::try_from(body.len()).expect("a length");
        Body::new(kind, whole).read_exact(&mut body).expect("a body of that length");

        let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
        head += match kind {
            Kind::Text | Kind::Families => {
                "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            }
            Kind::Opaque => "Content-Type: text/plain; version=0.0.4\r\nContent-Encoding: gzip\r\n",
        };
        let (block, tail) = match framing {
            Framing::Chunked(size) => {
                head += "Transfer-Encoding: chunked\r\n";
                (chunks(&body, size), "0\r\n\r\n")
            }
            Framing::Length => {
                head += &format!("Content-Length: {length}\r\n");
                (body, "")
            }
            Framing::UntilClose => (body, ""),
        };
        head += "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n\r\n";
        Self {
            head: head.into(),
            block: block.into(),
            repeats,
            tail: Bytes::from_static(tail.as_bytes()),
            length,
        }
    }

    /// The bytes of the message, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let blocks = std::iter::repeat_n(&self.block, self.repeats);
        std::iter::once(&self.head).chain(blocks).chain(std::iter::once(&self.tail))
    }
}

fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed
}
