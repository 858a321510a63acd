//! Responses of exporters as bytes, and the oracle: which part of them is a complete message.

use std::{
    io::{Read, Write as _},
    ops::Range,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use scrapegate::scrape::FIRST_BATCH;
use scrapegate_harness::{
    body::{Body, Kind},
    exporter::Framing,
    testbed::Then,
};

/// Payload size of a TLS record, which is also the size of one read by the proxy.
const RECORD: usize = 16 * 1024;
const READ: usize = 64 * 1024;

/// Length of a body that encoders divide into many blocks. Blocks of zstd have at most 64 KiB of the
/// body here. Blocks of the proxy have 16 KiB of compressed bytes.
const MANY_BLOCKS: usize = 900_000;

/// Responses up to this length are cut at each byte.
const SHORT: usize = 2000;

/// A body, and what its head says about it.
struct Source {
    name: &'static str,
    status: u16,
    /// Complete header lines.
    headers: &'static str,
    body: Vec<u8>,
    /// Bytes in each chunk, with the chunked coding.
    chunk: usize,
    /// The text after the size of each chunk.
    extension: &'static str,
    /// Complete lines after the last chunk.
    trailers: &'static str,
    /// The possible ends of a complete body, with any framing.
    markers: &'static [&'static [u8]],
    /// The possible ends of a complete close-delimited body.
    markers_until_close: &'static [&'static [u8]],
}

impl Source {
    /// Text that Prometheus reads line by line.
    fn text(name: &'static str, body: Vec<u8>) -> Self {
        Self {
            name,
            status: 200,
            headers: "Content-Type: text/plain; version=0.0.4\r\n",
            body,
            chunk: 4096,
            extension: "",
            trailers: "",
            markers: &[b""],
            markers_until_close: &[b"\n"],
        }
    }

    fn openmetrics(body: &[u8]) -> Self {
        const EOF: &[&[u8]] = &[b"\n# EOF\n", b"\n# EOF"];
        Self {
            headers: "Content-Type: application/openmetrics-text; version=1.0.0\r\n",
            chunk: 100,
            markers: EOF,
            markers_until_close: EOF,
            ..Self::text("OpenMetrics", [body, b"# EOF\n"].concat())
        }
    }

    fn own_500() -> Self {
        Self {
            status: 500,
            chunk: 10,
            markers_until_close: &[b""],
            ..Self::text("an exporter's own 500", b"cannot read the metrics".to_vec())
        }
    }

    /// Bodies with families that the drop rule of [`Chain::Filter`](crate::deaths::Chain) matches.
    fn of_families() -> Vec<Self> {
        let families = |length| body(Kind::Families, length);
        vec![
            Self { chunk: 3, ..Self::text("nothing is left", b"c{d=\"e\"} 1\n".to_vec()) },
            Self { chunk: 7, ..Self::text("three lines", b"a 1\nb 22\nc{d=\"e\"} 333\n".to_vec()) },
            Self {
                chunk: 1,
                ..Self::text("a value of two lines", b"b{c=\"\na\n\"} 1\na 1\n".to_vec())
            },
            Self::openmetrics(&families(5000)),
            Self { chunk: 2048, ..Self::text("64 KiB, one read", families(READ)) },
            Self { chunk: 10_000, ..Self::text("300 kB", families(300_000)) },
            Self::own_500(),
        ]
    }

    fn all() -> Vec<Self> {
        let lines = b"a 1\nb 22\nc{d=\"e\"} 333\n".to_vec();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text(60_000)).expect("into memory");
        vec![
            Self { chunk: 7, ..Self::text("empty", Vec::new()) },
            Self { chunk: 3, ..Self::text("one line", b"up 1\n".to_vec()) },
            Self { chunk: 7, ..Self::text("three lines", lines) },
            Self { chunk: RECORD, ..Self::text("16 KiB, one record", text(RECORD)) },
            Self { chunk: 2048, ..Self::text("64 KiB, one read", text(READ)) },
            Self::text("one batch", text(FIRST_BATCH)),
            Self { chunk: 10_000, ..Self::text("300 kB", text(300_000)) },
            Self::openmetrics(&text(700)),
            Self {
                headers: "Content-Encoding: gzip\r\n",
                markers_until_close: &[b""],
                ..Self::text("gzip", gzip.finish().expect("into memory"))
            },
            Self { chunk: 1, ..Self::text("chunks of one byte", text(300)) },
            Self {
                chunk: 100,
                extension: " ;name=\"a value\";b",
                trailers: "Expires: never\r\nX-Checksum: 0123456789\r\n",
                ..Self::text("extensions and trailers", text(1000))
            },
            Self::own_500(),
        ]
    }
}

fn text(length: usize) -> Vec<u8> {
    body(Kind::Text, length)
}

fn body(kind: Kind, length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    Body::new(kind, length as u64).read_to_end(&mut body).expect("a body never fails");
    body
}

/// A response with one framing, as bytes.
pub(crate) struct Answer {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) bytes: Bytes,
    /// The length of the head.
    pub(crate) head: usize,
    /// The body without framing.
    pub(crate) body: Vec<u8>,
    /// The positions of the pieces of the body in `bytes`.
    data: Vec<Range<usize>>,
    markers: &'static [&'static [u8]],
}

impl Answer {
    /// Each body with each framing.
    pub(crate) fn all() -> Vec<Self> {
        Source::all().iter().flat_map(Self::framed).collect()
    }

    /// The same with bodies for the drop rule of [`Chain::Filter`](crate::deaths::Chain).
    pub(crate) fn of_families() -> Vec<Self> {
        Source::of_families().iter().flat_map(Self::framed).collect()
    }

    /// Long bodies for a chain that compresses. `of_families`: for the drop rule of
    /// [`Chain::Filter`](crate::deaths::Chain) too.
    pub(crate) fn of_many_blocks(of_families: bool) -> Vec<Self> {
        let (kind, length) =
            if of_families { (Kind::Families, 2 * MANY_BLOCKS) } else { (Kind::Text, MANY_BLOCKS) };
        let source = Source { chunk: 10_000, ..Source::text("many blocks", body(kind, length)) };
        Self::framed(&source).into()
    }

    fn framed(source: &Source) -> [Self; 3] {
        [Framing::ContentLength, Framing::Chunked(source.chunk), Framing::UntilClose]
            .map(|framing| Self::new(source, framing))
    }

    fn new(source: &Source, framing: Framing) -> Self {
        let Source { name, status, headers, body, extension, trailers, .. } = source;
        let framing_header = framing.header(body.len() as u64);
        let mut bytes =
            format!("HTTP/1.1 {status} So\r\n{headers}{framing_header}\r\n").into_bytes();
        let head = bytes.len();
        let mut data = Vec::new();
        match framing {
            Framing::ContentLength | Framing::UntilClose => {
                bytes.extend_from_slice(body);
                data.push(head..bytes.len());
            }
            Framing::Chunked(size) => {
                for chunk in body.chunks(size) {
                    bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                    data.push(bytes.len()..bytes.len() + chunk.len());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend(format!("0{extension}\r\n{trailers}\r\n").bytes());
            }
        }
        let markers = match framing {
            Framing::UntilClose => source.markers_until_close,
            Framing::ContentLength | Framing::Chunked(_) => source.markers,
        };
        let (bytes, body, status) = (bytes.into(), body.clone(), *status);
        Self { name, status, framing, bytes, head, body, data, markers }
    }

    /// Whether an exporter that sends the first `cut` bytes, and then does `then`, has delivered a
    /// complete message (RFC 9112 section 6.3, and `integrity = strict` if the framing is not
    /// sufficient).
    pub(crate) fn is_whole(&self, cut: usize, then: Then) -> bool {
        let is_framed = match self.framing {
            Framing::ContentLength | Framing::Chunked(_) => cut == self.bytes.len(),
            Framing::UntilClose => cut >= self.head && then == Then::Fin,
        };
        is_framed && self.markers.iter().any(|marker| self.delivered(cut).ends_with(marker))
    }

    /// The part of the body in the first `cut` bytes.
    pub(crate) fn delivered(&self, cut: usize) -> &[u8] {
        let length = self.data.iter().map(|piece| cut.clamp(piece.start, piece.end) - piece.start);
        &self.body[..length.sum()]
    }

    /// The positions at which to cut. In a short response: each byte. In a long response: each byte
    /// outside the body, bytes around the boundaries of the proxy's batches, some positions in
    /// between, and the end.
    pub(crate) fn places(&self) -> Vec<usize> {
        let all = self.bytes.len();
        if all <= SHORT {
            return (0..=all).collect();
        }
        let mut edges = vec![self.head + FIRST_BATCH, self.head, all];
        edges.extend((RECORD..all).step_by(RECORD));
        edges.extend((self.head + RECORD..all).step_by(RECORD));
        let around = edges.iter().flat_map(|edge| edge - 3..=edge + 3);
        let outside = (0..=all).filter(|at| !self.data.iter().any(|piece| piece.contains(at)));
        let between = (self.head..all).step_by(all / 100);
        let mut places: Vec<_> = around.chain(outside).chain(between).collect();
        places.retain(|place| *place <= all);
        places.sort_unstable();
        places.dedup();
        places
    }

    /// `most` positions in the second half of the response, the last bytes, and the first one.
    pub(crate) fn late_places(&self, most: usize) -> Vec<usize> {
        let all = self.bytes.len();
        // An odd distance, so that the positions within chunks and blocks differ.
        let distance = (all / 2 / most) | 1;
        let mut places: Vec<_> = (all / 2..all).step_by(distance).collect();
        places.extend((all - 2..=all).chain([0]));
        places.sort_unstable();
        places.dedup();
        places
    }

    /// About `most` of the [`Answer::places`], always including the last ones.
    pub(crate) fn some_places(&self, most: usize) -> Vec<usize> {
        let places = self.places();
        let (start, end) = places.split_at(places.len() - 6);
        start.iter().step_by(start.len().div_ceil(most)).chain(end).copied().collect()
    }
}
