//! Formats the fields of a record as text that programs can parse: `name=value`, with the value in
//! quotes unless it is a plain word.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

/// Formats the fields of text records. The default formatter of `tracing_subscriber` writes a
/// `%value` without quotes, even if it contains blanks or quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuotedFields;

impl<'writer> FormatFields<'writer> for QuotedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn write(&mut self, field: &Field, value: &str) {
        if self.result.is_ok() {
            self.result = self.try_write(field.name(), value);
        }
    }

    fn try_write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        if name == "message" {
            return value.chars().try_for_each(|c| match c {
                c if c.is_control() => write!(self.writer, "{}", c.escape_debug()),
                c => self.writer.write_char(c),
            });
        }
        if self.writer.has_ansi_escapes() {
            write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
        } else {
            write!(self.writer, "{name}={value}")
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.write(field, value);
        } else {
            self.write(field, &format!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" || is_word(&text) || is_quoted(&text) {
            self.write(field, &text);
        } else {
            self.write(field, &format!("{text:?}"));
        }
    }
}

/// Whether a value needs no quotes.
fn is_word(text: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=');
    !text.is_empty() && text.chars().all(is_plain)
}

/// Whether a value is already in quotes, in the format that `Debug` has for strings.
fn is_quoted(text: &str) -> bool {
    let inside = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| {
        let mut is_escaped = false;
        let is_part = |c: char| {
            let was_escaped = std::mem::take(&mut is_escaped);
            is_escaped = c == '\\' && !was_escaped;
            !c.is_control() && (was_escaped || c != '"')
        };
        inside.chars().all(is_part) && !is_escaped
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn f29_a_value_that_is_not_a_plain_word_is_quoted() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer()
            .without_time()
            .with_ansi(false)
            .fmt_fields(QuotedFields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let reason = "TLS handshake failed: `x` = \"y\"";
            tracing::info!(
                target: "t",
                reason = %reason,
                address = %"127.0.0.1:3333",
                text = "in \"quotes\"",
                list = ?["a b", "c"],
                debug = ?"a b",
                number = 5,
                none = %"",
                end = %"line\nend",
                ends_in_backslash = %"\"a\\\"",
                "a message = {}", "b\u{1b}"
            );
        });
        let written = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(
            String::from_utf8_lossy(&written),
            concat!(
                " INFO t: a message = b\\u{1b} ",
                r#"reason="TLS handshake failed: `x` = \"y\"" address=127.0.0.1:3333 "#,
                r#"text="in \"quotes\"" list="[\"a b\", \"c\"]" debug="a b" number=5 none="" "#,
                r#"end="line\nend" ends_in_backslash="\"a\\\"""#,
                "\n"
            )
        );
    }
}
