//! Response bodies of any length: deterministic, without repeated blocks, and fast to create.

use std::io::{self, Read};

use aws_lc_rs::digest;

/// Length of a line of a text body, with its line feed.
const LINE: usize = 64;
const PREFIX: &[u8] = b"synthetic_series_of_the_raw_exporter{id=\"";
const SUFFIX: &[u8] = b"\"} 1.5\n";
/// Position of the sixteen hexadecimal digits in a line.
const DIGITS: std::ops::Range<usize> = PREFIX.len()..PREFIX.len() + 16;
const _: () = assert!(DIGITS.end + SUFFIX.len() == LINE);

/// Number of lines of a family in [`Kind::Families`]. With as many bytes, half of each 4 KiB are of
/// families called `kept_…`.
pub const FAMILY: u64 = 32;
const OF_FAMILY: &[u8; LINE] =
    b"kept_series_of_family_0000_seconds{id=\"0123456789abcdef\"} 12.25\n";
const HELP_OF_FAMILY: &[u8; LINE] =
    b"# HELP kept_series_of_family_0000_seconds A text of some kind. \n";

/// The contents of a [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of the text format, each with a different label value. The body ends in a newline.
    Text,
    /// Metric families of [`FAMILY`] lines, by turns called `kept_…` and `left_…`. The first line of
    /// each is `# HELP`.
    Families,
    /// Random bytes, which look to a proxy like a compressed body.
    Opaque,
}

/// A body of a given length that is created while it is read.
///
/// Two bodies of the same kind and length are equal, so a reader can compute the expected hash
/// without the sent bytes. No block occurs twice, so a lost, repeated or swapped block changes the
/// hash.
pub struct Body {
    kind: Kind,
    left: u64,
    random: u64,
    line: [u8; LINE],
    /// Number of lines so far.
    lines: u64,
    /// Number of bytes of `line` that have been read.
    taken: usize,
}

impl Body {
    /// A text body of `len` bytes.
    pub fn text(len: u64) -> Self {
        Self::new(Kind::Text, len)
    }

    /// A body of `len` bytes of `kind`.
    pub fn new(kind: Kind, len: u64) -> Self {
        let mut line = [0; LINE];
        line[..PREFIX.len()].copy_from_slice(PREFIX);
        line[DIGITS.end..].copy_from_slice(SUFFIX);
        Self { kind, left: len, random: 0x9e37_79b9_7f4a_7c15, line, lines: 0, taken: LINE }
    }

    /// The number of bytes that are still to be read.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    /// The SHA-256 of the complete body, in hexadecimal digits.
    pub fn sha256(kind: Kind, len: u64) -> String {
        let mut body = Self::new(kind, len);
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut piece = vec![0; 64 * 1024];
        loop {
            match body.read(&mut piece).expect("a body never fails") {
                0 => return hex(hash.finish().as_ref()),
                n => hash.update(&piece[..n]),
            }
        }
    }

    fn next_line(&mut self) {
        self.taken = 0;
        self.lines += 1;
        match self.kind {
            Kind::Text => {
                let value = self.next_random();
                self.line[DIGITS].copy_from_slice(&digits::<16>(value));
                if self.left < LINE as u64 {
                    self.last_line();
                }
            }
            Kind::Families => {
                let value = self.next_random();
                let is_help = (self.lines - 1).is_multiple_of(FAMILY);
                self.line = if is_help { *HELP_OF_FAMILY } else { *OF_FAMILY };
                let start = if is_help { b"# HELP ".len() } else { 0 };
                let family = (self.lines - 1) / FAMILY;
                if family % 2 == 1 {
                    self.line[start..start + 4].copy_from_slice(b"left");
                }
                let number = start + b"kept_series_of_family_".len();
                self.line[number..number + 4].copy_from_slice(&digits::<4>(family));
                if !is_help {
                    let id = b"kept_series_of_family_0000_seconds{id=\"".len();
                    self.line[id..id + 16].copy_from_slice(&digits::<16>(value));
                }
                if self.left < LINE as u64 {
                    self.last_line();
                }
            }
            Kind::Opaque => {
                for start in (0..LINE).step_by(8) {
                    let value = self.next_random();
                    self.line[start..start + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }

    /// Fills the rest with a comment that ends in a newline.
    fn last_line(&mut self) {
        let left = usize::try_from(self.left).expect("less than a line");
        self.line[..left].fill(b'#');
        self.line[left - 1] = b'\n';
    }

    /// xorshift64*: its state repeats only after 2⁶⁴ − 1 steps.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Read for Body {
    fn read(&mut self, mut buf: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while self.left > 0 && !buf.is_empty() {
            if self.taken == LINE {
                self.next_line();
            }
            let n = (LINE - self.taken)
                .min(buf.len())
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            buf[..n].copy_from_slice(&self.line[self.taken..self.taken + n]);
            buf = &mut buf[n..];
            self.taken += n;
            self.left -= n as u64;
            read += n;
        }
        Ok(read)
    }
}

/// The lowest hexadecimal digits of a number, the last digit first.
fn digits<const N: usize>(value: u64) -> [u8; N] {
    std::array::from_fn(|i| b"0123456789abcdef"[(value >> (4 * i)) as usize & 15])
}

/// Formats bytes as hexadecimal digits, as `sha256sum` does.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
