//! An input as a script: what is sent, in which pieces and when, and how it ends.
//!
//! The first line of an input is the script, the rest is what is sent. So an input can be written
//! by hand, and a dictionary of HTTP works on it. A script may be short: what it does not say is
//! 0, and all that no step sends is sent at once at the end.
//!
//! A step is one byte:
//!
//! | byte | step |
//! |---|---|
//! | `a` to `z` | a pause: 1 ms for `a` and `b`, 2 ms for `c` and `d`, to 4096 ms for `y` and `z` |
//! | `A` to `Z` | what the next step sends is sent 1, 2, 4, … times, but no more than [`MOST`] in all |
//! | any other | so many bytes as one piece |

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

/// Most bytes that a script sends: several times what the proxy may hold.
pub(crate) const MOST: usize = 768 * 1024;

/// Settings of a script, one byte each.
#[derive(Debug)]
pub(crate) struct Settings<'a>(&'a [u8]);

impl<'a> Settings<'a> {
    /// Takes an input apart into its script and what is sent.
    pub(crate) fn of(input: &'a [u8]) -> (Self, &'a [u8]) {
        let line = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
        (Self(&input[..line]), input.get(line + 1..).unwrap_or_default())
    }

    /// The next setting, 0 for none. The digits mean their value.
    pub(crate) fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first.wrapping_sub(b'0')
    }

    /// Those that are left.
    pub(crate) fn steps(self) -> &'a [u8] {
        self.0
    }
}

/// What one end sends.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Pieces and when they arrive.
    pub(crate) pieces: VecDeque<(Duration, Bytes)>,
    pub(crate) ending: Ending,
    /// When it ends.
    pub(crate) ends: Duration,
}

/// What comes after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The end of the stream.
    Fin,
    Reset,
    /// As a TLS stream that ends without close_notify.
    Cut,
    /// Nothing.
    Open,
}

impl Ending {
    pub(crate) fn of(setting: u8) -> Self {
        [Self::Fin, Self::Reset, Self::Cut, Self::Open][usize::from(setting % 4)]
    }
}

impl Script {
    /// Sends `sent` in these steps.
    pub(crate) fn of(steps: &[u8], mut sent: &[u8], ending: Ending) -> Self {
        let mut script = Self { pieces: VecDeque::new(), ending, ends: Duration::ZERO };
        let (mut times, mut left) = (1, MOST);
        for &step in steps {
            match step {
                b'a'..=b'z' => script.ends += Duration::from_millis(1 << ((step - b'a') / 2)),
                b'A'..=b'Z' => times = 1 << (step - b'A').min(20),
                _ => {
                    let (piece, rest) = sent.split_at(usize::from(step).min(sent.len()));
                    let fits = left / piece.len().max(1);
                    let piece = piece.repeat(times.min(fits));
                    left -= piece.len();
                    script.send(piece);
                    (times, sent) = (1, rest);
                }
            }
        }
        script.send(sent.to_vec());
        script
    }

    /// Sends all of `sent` at once.
    pub(crate) fn at_once(sent: &[u8], ending: Ending) -> Self {
        Self::of(&[], sent, ending)
    }

    fn send(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.pieces.push_back((self.ends, piece.into()));
        }
    }

    /// All that is sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(_, piece)| piece).copied().collect()
    }

    /// When the first `count` bytes have arrived.
    pub(crate) fn arrival_of(&self, count: usize) -> Duration {
        let mut arrived = 0;
        let whole = |piece: &&(Duration, Bytes)| {
            arrived += piece.1.len();
            arrived >= count
        };
        self.pieces.iter().find(whole).map_or(Duration::ZERO, |(at, _)| *at)
    }
}
