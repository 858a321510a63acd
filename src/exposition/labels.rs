//! The labels of one sample. Prometheus wants each label once.

use std::borrow::Cow;

use super::Fault;

#[derive(Debug, Default)]
pub(super) struct Labels<'a>(Vec<Label<'a>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label<'a> {
    name: Cow<'a, [u8]>,
    has_value: bool,
}

impl<'a> Labels<'a> {
    /// A label whose name stands in the text without quotes.
    pub(super) fn add(&mut self, name: &'a [u8], value: &[u8]) {
        self.0.push(Label { name: Cow::Borrowed(name), has_value: !value.is_empty() });
    }

    /// A label whose name stands in quotes, with its escapes.
    pub(super) fn add_quoted(&mut self, name: &'a [u8], value: &[u8]) {
        self.0.push(Label { name: unescaped(name), has_value: !value.is_empty() });
    }

    /// Whether Prometheus stores a sample with these labels.
    ///
    /// A label without a value is as good as absent, and takes others of its name with it: that is
    /// how Prometheus' label builder works.
    pub(super) fn check(mut self) -> Result<(), Fault> {
        if self.0.iter().any(|label| *label.name == *b"__name__") {
            return Err(Fault::ReservedLabel);
        }
        if self.0.len() < 2 {
            return Ok(());
        }
        self.0.sort_unstable();
        let mut same_name = self.0.chunk_by(|one, next| one.name == next.name);
        // Those without a value come first.
        if same_name.any(|labels| labels.len() > 1 && labels[0].has_value) {
            return Err(Fault::DuplicateLabel);
        }
        Ok(())
    }
}

fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
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
