//! Compresses a body while it passes: a [`Transform`] in front of an encoder.
//!
//! - `negotiation`: which coding a scraper gets, by its `Accept-Encoding`.
//! - `answers`: which answers are compressed, and how their heads change.
//! - `permits`: how many answers are compressed at the same time.
//! - `encoder`: zstd and gzip.

mod answers;
mod encoder;
mod negotiation;
pub(super) mod permits;

use std::{fmt, time::Duration};

pub(in crate::scrape) use self::answers::{applies_to, mark};
use self::{
    encoder::Encoder,
    permits::{CompressionPermit, CompressionPermits},
};
use super::{Out, Then, Transform};
use crate::{
    common::{
        compression::{CompressFor, CompressionRules, ContentCoding},
        error::Abort,
    },
    scrape::link::Link,
};
use bytes::Bytes;

/// How long compressed bytes may wait for more while the exporter pauses. A flush at each pause
/// would cost a large part of the ratio. The promise is 200 ms. The rest is for the timer and for
/// the way to the socket.
const HOLD: Duration = Duration::from_millis(150);

/// Size of a block of compressed bytes. Full blocks are passed on, without a copy.
const BLOCK: usize = 16 * 1024;

/// The decision to compress an answer, with the permit to do so.
#[derive(Debug)]
pub(in crate::scrape) struct PlannedCompression {
    coding: ContentCoding,
    permit: CompressionPermit,
}

impl PlannedCompression {
    /// Decides whether the answer to the request with `headers` is compressed, if the exporter
    /// sends one that can be.
    ///
    /// `None` if all permits are taken: the scrape goes uncompressed. The permit is taken before the
    /// exporter is asked, because an exporter is asked for plain bytes only if they are compressed
    /// here.
    pub(in crate::scrape) fn of(
        rules: &CompressionRules,
        headers: &hyper::HeaderMap,
        link: Link,
        permits: &CompressionPermits,
    ) -> Option<Self> {
        let is_wanted = match rules.compress_for {
            CompressFor::Nobody => false,
            CompressFor::All => true,
            CompressFor::FarAway => link.is_far,
        };
        if !is_wanted || answers::forbids_transforms(headers) {
            return None;
        }
        let coding = negotiation::choose(headers, &rules.algorithms)?;
        Some(Self { coding, permit: permits.try_acquire()? })
    }

    pub(in crate::scrape) fn coding(&self) -> ContentCoding {
        self.coding
    }

    /// The transform. It owns the permit.
    pub(in crate::scrape) fn start(self) -> Compression {
        Compression { _permit: Some(self.permit), ..Compression::new(self.coding) }
    }
}

/// Compresses a body. See the [module](self).
pub struct Compression {
    encoder: Encoder,
    /// Compressed bytes that do not fill a block yet.
    block: Vec<u8>,
    /// Whether the encoder has taken bytes since the last flush.
    is_behind: bool,
    _permit: Option<CompressionPermit>,
}

impl Compression {
    /// Compresses with `coding`, without a permit.
    #[must_use]
    pub fn new(coding: ContentCoding) -> Self {
        Self { encoder: Encoder::new(coding), block: Vec::new(), is_behind: false, _permit: None }
    }

    /// Runs the encoder until it has taken all of `input` and has done what `then` says.
    fn run(&mut self, mut input: &[u8], then: Then, out: &mut Out) -> Result<(), Abort> {
        loop {
            if self.block.capacity() == 0 {
                self.block.reserve_exact(BLOCK);
            }
            let is_done = self.encoder.step(&mut input, &mut self.block, then);
            // An encoder takes any bytes, so only a bug can be the reason.
            let is_done = is_done.map_err(|_| Abort::Panicked)?;
            if self.block.len() == self.block.capacity() {
                out.push(std::mem::take(&mut self.block).into());
            }
            if is_done {
                return Ok(());
            }
        }
    }

    /// Passes on what is in the block, however little.
    fn empty_block(&mut self, out: &mut Out) {
        if !self.block.is_empty() {
            // Most flushes are short, and a block would stay allocated until the bytes are sent.
            out.push(Bytes::copy_from_slice(&self.block));
            self.block.clear();
        }
    }
}

impl Transform for Compression {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        self.is_behind |= !data.is_empty();
        self.run(&data, Then::Nothing, out)
    }

    fn flush(&mut self, out: &mut Out) -> Result<(), Abort> {
        // Without this check, the header of gzip would leave although a filter has passed nothing, and
        // the scrape could no longer be refused.
        if std::mem::take(&mut self.is_behind) {
            self.run(&[], Then::Flush, out)?;
            self.empty_block(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.run(&[], Then::Finish, out)?;
        self.empty_block(out);
        Ok(())
    }

    fn hold(&self) -> Duration {
        HOLD
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression").field("block", &self.block.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
