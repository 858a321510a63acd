//! The encoders: zstd and gzip, each with one step of its streaming interface.

use std::io;

use flate2::{Compress, FlushCompress, Status};
use zstd::stream::raw::{CParameter, InBuffer, Operation, OutBuffer};

use crate::{common::compression::ContentCoding, scrape::transform::Then};

/// The level of zstd. Exposition compresses to 8 to 20 % at this level, and higher ones cost more
/// time for nearly the same bytes.
const ZSTD_LEVEL: i32 = 1;

/// The window of zstd: 64 KiB, as base-2 logarithm. Lines repeat what is close to them. Measured
/// with 22 MB of exposition: windows up to 256 KiB save no bytes, and need twice the memory.
const ZSTD_WINDOW: u32 = 16;

/// Entries in the hash table of zstd, as base-2 logarithm. Smaller than the default of the level:
/// fewer old positions, so matches are closer and cheaper to encode.
const ZSTD_HASH: u32 = 13;

/// The level of gzip. Level 1 of zlib-rs uses fixed codes, and sends a third more bytes. Level 2 sends
/// fewer bytes than level 1 of zlib, in less time.
const GZIP_LEVEL: u32 = 2;

/// The window of gzip, as base-2 logarithm: the largest.
const GZIP_WINDOW: u8 = 15;

/// An encoder, with about 0.5 MiB (zstd) or 0.3 MiB (gzip) of memory.
pub(super) enum Encoder {
    Zstd(zstd::stream::raw::Encoder<'static>),
    Gzip(Box<Compress>),
}

impl Encoder {
    /// # Panics
    ///
    /// If there is no memory.
    pub(super) fn new(coding: ContentCoding) -> Self {
        match coding {
            ContentCoding::Zstd => {
                Self::Zstd(zstd_encoder().expect("parameters within their bounds"))
            }
            ContentCoding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(Box::new(Compress::new_gzip(level, GZIP_WINDOW)))
            }
        }
    }

    /// Takes bytes from `input`, and adds compressed bytes to `out` up to its capacity. Whether all
    /// of the input is taken and `then` is done. If `out` is full, call it again with room.
    pub(super) fn step(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        then: Then,
    ) -> io::Result<bool> {
        match self {
            Self::Zstd(encoder) => step_zstd(encoder, input, out, then),
            Self::Gzip(encoder) => step_gzip(encoder, input, out, then),
        }
    }
}

fn zstd_encoder() -> io::Result<zstd::stream::raw::Encoder<'static>> {
    let mut encoder = zstd::stream::raw::Encoder::new(ZSTD_LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
    encoder.set_parameter(CParameter::HashLog(ZSTD_HASH))?;
    // No checksum, which is the default: TLS protects the bytes on their way.
    Ok(encoder)
}

fn step_zstd(
    encoder: &mut zstd::stream::raw::Encoder<'_>,
    input: &mut &[u8],
    out: &mut Vec<u8>,
    then: Then,
) -> io::Result<bool> {
    let filled = out.len();
    let mut to = OutBuffer::around_pos(out, filled);
    let left = if input.is_empty() {
        match then {
            Then::Nothing => 0,
            Then::Flush => encoder.flush(&mut to)?,
            Then::Finish => encoder.finish(&mut to, false)?,
        }
    } else {
        let mut from = InBuffer::around(input);
        encoder.run(&mut from, &mut to)?;
        let taken = from.pos();
        *input = &input[taken..];
        // What is left to do after the input: `then`.
        input.len().max(usize::from(then != Then::Nothing))
    };
    Ok(left == 0)
}

fn step_gzip(
    encoder: &mut Compress,
    input: &mut &[u8],
    out: &mut Vec<u8>,
    then: Then,
) -> io::Result<bool> {
    let flush = match then {
        Then::Nothing => FlushCompress::None,
        Then::Flush => FlushCompress::Sync,
        Then::Finish => FlushCompress::Finish,
    };
    let before = encoder.total_in();
    let status = encoder.compress_vec(input, out, flush).map_err(io::Error::other)?;
    let taken = usize::try_from(encoder.total_in() - before).map_err(io::Error::other)?;
    *input = &input[taken..];
    Ok(match then {
        // With room left, zlib has taken all input and has done the flush.
        Then::Nothing | Then::Flush => input.is_empty() && out.len() < out.capacity(),
        Then::Finish => status == Status::StreamEnd,
    })
}
