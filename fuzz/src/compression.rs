//! A compressed body, whatever the body, its pieces and its pauses:
//!
//! - A decoder of the scraper produces the bytes of the body, and sees its end, if and only if the
//!   source ended whole.
//! - If the source is cut, the decoder produces the beginning of the body, and sees no clean end.
//! - After a flush, the decoder produces exactly the bytes before it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use scrapegate::{
    common::{compression::ContentCoding, error::Abort},
    scrape::{
        source::Source,
        transform::{Out, Transform, Transformed, Transforms, compression::Compression},
    },
};
use scrapegate_harness::decoder::Decoded;

use crate::script::Settings;

/// The failure of a source that is cut.
const FAULT: Abort = Abort::ExporterCutShort;

/// Longest body in bytes.
const MOST: usize = 1 << 20;

/// Asserts the property. The first line of `input` has three settings: the coding (0 zstd, 1 gzip), how the
/// source ends (0 whole, 1 by a failure), and how often each piece is repeated, and then a step for
/// each byte. A letter is a pause, any other byte sends that many bytes of the rest of the input.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let (mut settings, text) = Settings::of(input);
    let coding = [ContentCoding::Zstd, ContentCoding::Gzip][usize::from(settings.next() % 2)];
    let is_cut = settings.next() % 2 == 1;
    let times = 1 + usize::from(settings.next());
    let (steps, body) = steps(settings.steps(), text, times);
    let end = if is_cut { Err(FAULT) } else { Ok(()) };
    let source = Pieces { steps, end, passed: 0, pauses: false };
    let chain: Vec<Box<dyn Transform>> = vec![Box::new(AtOnce(Compression::new(coding)))];
    let mut compressed = Transformed::new(source, Transforms::new(chain));
    // The bytes sent up to the last flush, and the bytes of the body before it.
    let (mut sent, mut flushed) = (Vec::new(), (0, 0));
    let end = loop {
        match compressed.poll_chunk(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(bytes))) => {
                sent.extend_from_slice(&bytes);
                let source = compressed.source();
                if source.pauses {
                    flushed = (sent.len(), source.passed);
                }
            }
            Poll::Ready(Some(Err(abort))) => break Err(abort),
            Poll::Ready(None) => break Ok(()),
            Poll::Pending => {}
        }
    };
    let Decoded { bytes, is_clean } = Decoded::of(coding, &sent);
    assert_eq!(end.is_err(), is_cut);
    assert_eq!(is_clean, !is_cut, "{} bytes sent", sent.len());
    assert!(body.starts_with(&bytes), "other bytes");
    assert!(is_cut || bytes.len() == body.len(), "{} of {} bytes", bytes.len(), body.len());
    let at_flush = Decoded::of(coding, &sent[..flushed.0]);
    assert!(at_flush.bytes == body[..flushed.1], "not flushed: {flushed:?}");
    assert!(!at_flush.is_clean, "clean at a flush");
}

/// The pieces that the source sends, where `None` is a pause, and all their bytes.
fn steps(script: &[u8], text: &[u8], times: usize) -> (VecDeque<Option<Bytes>>, Vec<u8>) {
    let (mut left, mut steps, mut body) = (text, VecDeque::new(), Vec::new());
    for &byte in script {
        if byte.is_ascii_alphabetic() {
            steps.push_back(None);
            continue;
        }
        let (piece, rest) = left.split_at(left.len().min(byte.into()));
        left = rest;
        let piece = piece.repeat(times);
        // A source never yields empty bytes.
        if !piece.is_empty() && body.len() + piece.len() <= MOST {
            body.extend_from_slice(&piece);
            steps.push_back(Some(piece.into()));
        }
    }
    (steps, body)
}

/// The source that an input describes.
#[derive(Debug)]
struct Pieces {
    steps: VecDeque<Option<Bytes>>,
    end: Result<(), Abort>,
    /// Bytes so far.
    passed: usize,
    /// The last step was a pause.
    pauses: bool,
}

impl Source for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        let step = self.steps.pop_front();
        self.pauses = step == Some(None);
        match step {
            Some(Some(piece)) => {
                self.passed += piece.len();
                Poll::Ready(Some(Ok(piece)))
            }
            Some(None) => Poll::Pending,
            None => Poll::Ready(self.end.err().map(Err)),
        }
    }

    fn is_end(&self) -> bool {
        false
    }

    fn release(&mut self) {}

    fn read_up_to(&mut self, _: usize) {}
}

/// Flushes in each pause, without a clock.
#[derive(Debug)]
struct AtOnce(Compression);

impl Transform for AtOnce {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        self.0.push(data, out)
    }

    fn flush(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.0.flush(out)
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.0.finish(out)
    }
}
