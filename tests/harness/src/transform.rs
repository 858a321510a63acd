//! Transforms for tests: some that change the length of a body, and one that does what an input
//! says.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use scrapegate::{
    common::error::Abort,
    scrape::transform::{Out, Transform},
};

/// Passes each piece unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

impl Transform for Identity {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        out.push(data);
        Ok(())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }
}

/// Sends every byte twice.
#[derive(Clone, Copy, Debug)]
pub struct Doubling;

impl Doubling {
    /// The output for `bytes`.
    pub fn of(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|&byte| [byte, byte]).collect()
    }
}

impl Transform for Doubling {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        out.push(Self::of(&data).into());
        Ok(())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }
}

/// Keeps everything until the end of the body, and adds [`Hoarding::TRAILER`].
#[derive(Debug, Default)]
pub struct Hoarding(Vec<Bytes>);

impl Hoarding {
    /// What marks the end of a body.
    pub const TRAILER: &[u8] = b"# the trailer\n";
}

impl Transform for Hoarding {
    fn push(&mut self, data: Bytes, _: &mut Out) -> Result<(), Abort> {
        self.0.push(data);
        Ok(())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        mem::take(&mut self.0).into_iter().for_each(|piece| out.push(piece));
        out.push(Bytes::from_static(Self::TRAILER));
        Ok(())
    }
}

/// Leaves out every other piece: passes the first one, not the second, and so on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropping {
    drops_next: bool,
}

impl Transform for Dropping {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        if !self.drops_next {
            out.push(data);
        }
        self.drops_next = !self.drops_next;
        Ok(())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }
}

/// The behavior of a transform that does what one byte for each call says, whichever method is called: the remainder of the byte
/// divided by eight, so that the digits `0` to `7` mean themselves. After the last byte, each
/// piece passes unchanged.
///
/// | byte | effect |
/// |---|---|
/// | 0 | passes the piece |
/// | 1 | passes the piece twice |
/// | 2 | keeps the piece |
/// | 3 | passes all kept pieces, then this one |
/// | 4 | leaves the piece out |
/// | 5 | passes the piece, then [`Scripted::FOREIGN`] |
/// | 6 | passes the piece byte by byte |
/// | 7 | passes the piece, and fails with [`Scripted::FAULT`] |
#[derive(Debug)]
pub struct Scripted {
    script: VecDeque<u8>,
    kept: Vec<Bytes>,
}

impl Scripted {
    /// Bytes that are not in any body.
    pub const FOREIGN: &[u8] = b"\xfffor\xffeign";

    /// The error of a transform that fails.
    pub const FAULT: Abort = Abort::Panicked;

    /// A transform that follows `script`.
    pub fn new(script: &[u8]) -> Self {
        Self { script: script.iter().copied().collect(), kept: Vec::new() }
    }

    /// Handles one call: the output, and whether the call succeeds. `flush` and `finish` have an
    /// empty piece.
    pub fn step(&mut self, piece: Bytes) -> (Vec<Bytes>, Result<(), Abort>) {
        let output = match self.script.pop_front().unwrap_or_default() % 8 {
            0 => vec![piece],
            1 => vec![piece.clone(), piece],
            2 => {
                self.kept.push(piece);
                Vec::new()
            }
            3 => {
                self.kept.push(piece);
                mem::take(&mut self.kept)
            }
            4 => Vec::new(),
            5 => vec![piece, Bytes::from_static(Self::FOREIGN)],
            6 => (0..piece.len()).map(|at| piece.slice(at..=at)).collect(),
            _ => return (vec![piece], Err(Self::FAULT)),
        };
        (output, Ok(()))
    }
}
