//! Splits a line into its parts.

/// The rest of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

/// The result of reading a quoted string.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quoted<'a> {
    /// The text between the quotes, with escapes not resolved.
    Whole(&'a [u8]),
    /// A backslash before a newline, which is not a valid escape.
    Broken,
    /// The closing quote is missing.
    Open,
}

impl<'a> Cursor<'a> {
    pub(super) fn first(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn split(&mut self, at: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(at);
        self.0 = rest;
        taken
    }

    /// Skips spaces and tabs. Returns whether there were any.
    pub(super) fn blanks(&mut self) -> bool {
        !self.take_while(is_blank).is_empty()
    }

    pub(super) fn takes(&mut self, expected: u8) -> bool {
        let is_next = self.first() == Some(expected);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    pub(super) fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|&&byte| is_part(byte)).count();
        self.split(length)
    }

    /// Takes the text up to the next space or tab.
    pub(super) fn word(&mut self) -> &'a [u8] {
        self.take_while(|byte| !is_blank(byte))
    }

    /// Takes an unquoted metric name. Empty if the text does not start with one.
    pub(super) fn metric_name(&mut self) -> &'a [u8] {
        self.name(|byte| is_label_byte(byte) || byte == b':')
    }

    /// Takes an unquoted label name. Empty if the text does not start with one.
    pub(super) fn label_name(&mut self) -> &'a [u8] {
        self.name(is_label_byte)
    }

    fn name(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        if self.first().is_some_and(|first| first.is_ascii_digit()) {
            return b"";
        }
        self.take_while(is_part)
    }

    /// Takes a quoted string. The next byte is its opening quote.
    ///
    /// Prometheus' lexer skips NUL bytes in label values. After a backslash and a NUL, the
    /// backslash therefore escapes the byte after the NUL.
    pub(super) fn quoted(&mut self) -> Quoted<'a> {
        let mut from = 1;
        loop {
            let Some(found) =
                self.0.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
            else {
                return Quoted::Open;
            };
            let at = from + found;
            if self.0[at] == b'"' {
                let inside = &self.0[1..at];
                self.0 = &self.0[at + 1..];
                return Quoted::Whole(inside);
            }
            let escaped = at + 1 + self.0[at + 1..].iter().take_while(|&&byte| byte == 0).count();
            match self.0.get(escaped) {
                None => return Quoted::Open,
                Some(b'\n') => return Quoted::Broken,
                Some(_) => from = escaped + 1,
            }
        }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether Prometheus' `parseFloat` accepts `word`. That is Go's `ParseFloat`, without `p` and `_`.
///
/// Unlike Rust, Go refuses a sign before `NaN`, and a number that is too large for a float.
pub(super) fn is_float(word: &[u8]) -> bool {
    float(word).is_some()
}

/// Parses a number by the rules of [`is_float`].
pub(super) fn float(word: &[u8]) -> Option<f64> {
    let is_short_integer = (1..16).contains(&word.len()) && word.iter().all(u8::is_ascii_digit);
    if is_short_integer {
        // The callers need only to know that the number is finite.
        return Some(0.0);
    }
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    let spelled = word.iter().any(|byte| matches!(byte, b'i' | b'I'));
    let is_signed = matches!(word.first(), Some(b'+' | b'-'));
    let fits = if number.is_nan() { !is_signed } else { number.is_finite() || spelled };
    fits.then_some(number)
}

/// Whether Go's `ParseInt` accepts `word` as a 64-bit integer.
pub(super) fn is_integer(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<i64>().is_ok())
}
