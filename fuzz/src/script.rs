//! An input as a script: what is sent, in which pieces and when, and how the stream ends.
//!
//! The first line of an input is the script, the rest is the data to send. Inputs can therefore be
//! written by hand, and an HTTP dictionary is useful. A script may be short: a missing setting is
//! 0, and data that no step sends is sent at once at the end.
//!
//! A step is one byte:
//!
//! | byte | step |
//! |---|---|
//! | `a` to `z` | a pause: 1 ms for `a` and `b`, 2 ms for `c` and `d`, to 4096 ms for `y` and `z` |
//! | `A` to `Z` | the data of the next step is sent 1, 2, 4, … times, but at most [`MOST`] bytes in all |
//! | any other | sends as many bytes as its value, as one piece |

use std::time::Duration;

use scrapegate_harness::in_memory::scripted::{Ending, Script};

/// Limit for the bytes that a script sends: several times what the proxy may have in memory.
pub(crate) const MOST: usize = 768 * 1024;

/// The settings of a script, one byte each.
#[derive(Debug)]
pub(crate) struct Settings<'a>(&'a [u8]);

impl<'a> Settings<'a> {
    /// Splits an input into its script and its data.
    pub(crate) fn of(input: &'a [u8]) -> (Self, &'a [u8]) {
        let line = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
        (Self(&input[..line]), input.get(line + 1..).unwrap_or_default())
    }

    /// The next setting; 0 if it is missing. A digit means its value.
    pub(crate) fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first.wrapping_sub(b'0')
    }

    /// The remaining bytes of the script, which are the steps.
    pub(crate) fn steps(self) -> &'a [u8] {
        self.0
    }
}

/// What follows the last byte, by its number.
pub(crate) fn ending(setting: u8) -> Ending {
    [Ending::Fin, Ending::Reset, Ending::Cut, Ending::Open][usize::from(setting % 4)]
}

/// Sends `sent` in these steps.
pub(crate) fn script(steps: &[u8], mut sent: &[u8], ending: Ending) -> Script {
    let mut script = Script::empty(ending);
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
