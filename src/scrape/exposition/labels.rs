//! The labels of one sample. Prometheus requires their names to be unique.

use std::borrow::Cow;

use super::fault::Fault;

#[derive(Debug, Default)]
pub(super) struct Labels<'a>(Vec<Label<'a>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label<'a> {
    name: Cow<'a, [u8]>,
    has_value: bool,
}

impl<'a> Labels<'a> {
    /// Adds a label with an unquoted name.
    pub(super) fn add(&mut self, name: &'a [u8], value: &[u8]) {
        self.0.push(Label { name: Cow::Borrowed(name), has_value: !value.is_empty() });
    }

    /// Adds a label with a quoted name, whose escapes are not resolved yet.
    pub(super) fn add_quoted(&mut self, name: &'a [u8], value: &[u8]) {
        self.0.push(Label { name: unescaped(name), has_value: !value.is_empty() });
    }

    /// Checks whether Prometheus stores a sample with these labels.
    ///
    /// Prometheus' label builder removes a label with an empty value, together with all other
    /// labels of the same name.
    pub(super) fn check(mut self) -> Result<(), Fault> {
        if self.0.iter().any(|label| *label.name == *b"__name__") {
            return Err(Fault::ReservedLabel);
        }
        if self.0.len() < 2 {
            return Ok(());
        }
        self.0.sort_unstable();
        let mut same_name = self.0.chunk_by(|one, next| one.name == next.name);
        // Labels without a value sort first.
        if same_name.any(|labels| labels.len() > 1 && labels[0].has_value) {
            return Err(Fault::DuplicateLabel);
        }
        Ok(())
    }
}

/// A quoted name without its escapes.
pub(in crate::scrape) fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return Cow::Borrowed(name);
    }
    let mut bytes = name.iter().copied().peekable();
    let mut text = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        let escaped = match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(&next @ (b'\\' | b'"'))) => Some(next),
            _ => None,
        };
        if escaped.is_some() {
            bytes.next();
        }
        text.push(escaped.unwrap_or(byte));
    }
    Cow::Owned(text)
}
