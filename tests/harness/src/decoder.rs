//! Decoders, as a scraper uses them.

use std::io::Read;

use scrapegate::common::compression::ContentCoding;

/// What a decoder makes of an encoded body, or of the start of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// All bytes that the decoder produces.
    pub bytes: Vec<u8>,
    /// Whether the decoder sees the end of the body, and nothing after it.
    pub is_clean: bool,
}

impl Decoded {
    /// Decodes `encoded`.
    ///
    /// # Panics
    /// If there is no memory for a decoder.
    pub fn of(coding: ContentCoding, mut encoded: &[u8]) -> Self {
        // Both decoders take an empty input for an empty body, which HTTP clients do not.
        let is_there = !encoded.is_empty();
        let mut bytes = Vec::new();
        let read = match coding {
            ContentCoding::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(&mut encoded);
                decoder.expect("a decoder").single_frame().read_to_end(&mut bytes)
            }
            ContentCoding::Gzip => {
                flate2::bufread::GzDecoder::new(&mut encoded).read_to_end(&mut bytes)
            }
        };
        Self { bytes, is_clean: is_there && read.is_ok() && encoded.is_empty() }
    }
}

/// The data of a chunked body, as far as it has arrived, and its chunks.
///
/// # Panics
/// If the bytes are not chunked.
pub fn chunks(mut framed: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(end) = framed.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&framed[..end]).expect("a size in ASCII");
        let size = usize::from_str_radix(size, 16).expect("a size in hexadecimal");
        let data = &framed[end + 2..];
        if size == 0 {
            break;
        }
        chunks.push(data[..size.min(data.len())].to_vec());
        framed = data.get(size + 2..).unwrap_or_default();
    }
    chunks
}
