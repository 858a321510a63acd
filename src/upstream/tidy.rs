//! Repairs field lines that RFC 9112 tells a receiver to repair, before they are parsed.
//!
//! curl and Prometheus accept such lines, so the exporter can be scraped without the proxy too.
//! Lines of `Content-Length` and `Transfer-Encoding` are never repaired: receivers disagree about
//! them, and one of them would take a truncated body for a complete one.

/// The fields that define where a body ends.
const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

/// Repairs the field lines of a complete head. `None` if they cannot be repaired.
pub(super) fn head(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let (status_line, lines) = bytes.split_at(end);
    Some([status_line, &fields(lines)?].concat())
}

/// Rewrites field lines and the empty line that ends them, each as `name: value`:
///
/// - Blanks before the colon are removed (RFC 9112 §5.1).
/// - A line that begins with a blank continues the previous line, after one space (§5.2). Blank
///   continuation lines add nothing.
/// - A field with blanks inside its name is omitted, since its name cannot be relayed.
///
/// The parser then decides whether names and values are valid. Returns `None` for a line without a
/// colon, a blank before the first field, a CR that does not end a line (RFC 9112 §2.2; also in a
/// field that is omitted), or a line in need of repair that defines the length of the body.
pub(super) fn fields(lines: &[u8]) -> Option<Vec<u8>> {
    let mut tidied = Vec::with_capacity(lines.len());
    let mut lines = lines.split(|&byte| byte == b'\n').map(without_cr).peekable();
    if lines.clone().any(|line| line.contains(&b'\r')) {
        return None;
    }
    while let Some(line) = lines.next_if(|line| !line.is_empty()) {
        let (raw, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
        if raw.first().copied().is_some_and(is_blank) {
            return None;
        }
        let name = trimmed(raw);
        let mut value = trimmed(&value[1..]).to_vec();
        let mut is_plain = name.len() == raw.len();
        while let Some(more) = lines.next_if(|line| line.first().copied().is_some_and(is_blank)) {
            is_plain = false;
            let more = trimmed(more);
            if !more.is_empty() {
                value.extend_from_slice(&[b" ", more].concat());
            }
        }
        let has_blanks = name.iter().copied().any(is_blank);
        if (has_blanks || !is_plain) && is_framing(name) {
            return None;
        }
        if !has_blanks {
            tidied.extend_from_slice(&[name, b": ", trimmed(&value), b"\r\n"].concat());
        }
    }
    tidied.extend_from_slice(b"\r\n");
    // Only the empty line follows.
    lines.eq([b"", b""]).then_some(tidied)
}

/// Whether a receiver could take a field with this name for one that defines the length of the
/// body.
fn is_framing(name: &[u8]) -> bool {
    let joined: Vec<u8> = name.iter().copied().filter(|&byte| !is_blank(byte)).collect();
    let mut words = name.split(|&byte| is_blank(byte)).chain([&joined[..]]);
    words.any(|word| FRAMING.iter().any(|framing| word.eq_ignore_ascii_case(framing)))
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The text without surrounding blanks.
fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f21_blanks_before_a_colon_and_folded_lines_are_repaired() {
        for (lines, tidied) in [
            ("A : b\r\n\r\n", "A: b\r\n\r\n"),
            ("A \t:b\n\n", "A: b\r\n\r\n"),
            ("A: b\r\n c\r\n\td \r\n\r\n", "A: b c d\r\n\r\n"),
            ("A:\r\n b\r\n\r\n", "A: b\r\n\r\n"),
            ("A: b\r\n \r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n\r\n"),
            ("A: b\r\n\t\r\n c\r\n\r\n", "A: b c\r\n\r\n"),
            ("A : b\r\nContent-Length: 4\r\n\r\n", "A: b\r\nContent-Length: 4\r\n\r\n"),
            ("A: b\r\n Content-Length: 4\r\n\r\n", "A: b Content-Length: 4\r\n\r\n"),
            ("A b: c\r\n d\r\nE: f\r\n\r\n", "E: f\r\n\r\n"),
            ("Content-Length-Limit : 4\r\n\r\n", "Content-Length-Limit: 4\r\n\r\n"),
        ] {
            let written =
                fields(lines.as_bytes()).map(|it| String::from_utf8_lossy(&it).into_owned());
            assert_eq!(written.as_deref(), Some(tidied), "{lines:?}");
        }
    }

    #[test]
    fn f21_a_line_that_defines_the_length_of_the_body_is_never_repaired() {
        for lines in [
            "Content-Length : 4\r\n\r\n",
            "content-length\t: 4\r\n\r\n",
            "Content-Length:\r\n 4\r\n\r\n",
            "Content-Length: 4\r\n \r\n\r\n",
            "Content-Length: 4\r\n 5\r\n\r\n",
            "Content -Length: 4\r\n\r\n",
            "Content-Length x: 4\r\n\r\n",
            "Transfer-Encoding : chunked\r\n\r\n",
            "TRANSFER-ENCODING:\r\n\tchunked\r\n\r\n",
            " A: b\r\n\r\n",
            "\rA b: c\r\n\r\n",
            "A b: c\rd\r\n\r\n",
            "A b: c\r\n d\re\r\n\r\n",
            "A b: c\r\r\n\r\n",
            "no colon\r\n\r\n",
            "A : b\r\n",
            "A : b\r\n\nC: d\r\n\r\n",
        ] {
            assert_eq!(fields(lines.as_bytes()), None, "{lines:?}");
        }
    }
}
