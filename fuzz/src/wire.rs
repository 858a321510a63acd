//! An independent reader of HTTP/1.1 after RFC 9112: the reference for the proxy. It shares no code
//! with the proxy or with the libraries with which the proxy parses HTTP.

use std::{borrow::Cow, ops::Range};

/// Limit for the fields of a head, and for trailers.
pub(crate) const MAX_FIELDS: usize = 100;

/// Limit in bytes for a head, for the extensions of one chunk, and for the trailers of a body.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// A parsed head.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) first_line: &'a [u8],
    /// Names in lower case; values without surrounding whitespace.
    pub(crate) fields: Vec<(String, Cow<'a, [u8]>)>,
    /// Length in bytes, including the empty line.
    pub(crate) length: usize,
}

/// The result of parsing a head.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    Whole(Head<'a>),
    /// The empty line is missing.
    Partial,
    Invalid,
}

impl<'a> Head<'a> {
    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(have, _)| have == name).map(|(_, value)| &**value).collect()
    }
}

/// Parses a head. Lines end with CRLF or LF (RFC 9112 §2.2).
pub(crate) fn head(bytes: &[u8]) -> Parsed<'_> {
    let mut lines = Lines { bytes, at: 0 };
    let Some(first_line) = lines.next() else {
        return Parsed::Partial;
    };
    let mut fields = Vec::new();
    loop {
        let Some(line) = lines.next() else {
            return Parsed::Partial;
        };
        if line.is_empty() {
            return Parsed::Whole(Head { first_line, fields, length: lines.at });
        }
        match field(line) {
            Some((name, value)) if fields.len() < MAX_FIELDS => {
                fields.push((name, Cow::Borrowed(value)));
            }
            Some(_) | None => return Parsed::Invalid,
        }
    }
}

/// Parses the head of an exporter, which may deviate from RFC 9112: see [`lenient_fields`].
pub(crate) fn exporter_head(bytes: &[u8]) -> Parsed<'_> {
    let mut lines = Lines { bytes, at: 0 };
    let Some(first_line) = lines.next() else {
        return Parsed::Partial;
    };
    let block: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let length = lines.at;
    if !(bytes[..length].ends_with(b"\n\n") || bytes[..length].ends_with(b"\n\r\n")) {
        return Parsed::Partial;
    }
    match lenient_fields(&block) {
        Some(fields) if fields.len() <= MAX_FIELDS => {
            Parsed::Whole(Head { first_line, fields, length })
        }
        Some(_) | None => Parsed::Invalid,
    }
}

/// Parses fields as curl and Prometheus do. A line that begins with a blank continues the previous
/// line, after one space. Blanks before the colon are ignored. A field with blanks inside its name
/// is omitted. However, a field that may define the length of the body must be one line without any
/// of these deviations.
fn lenient_fields<'a>(lines: &[&'a [u8]]) -> Option<Vec<(String, Cow<'a, [u8]>)>> {
    // A CR that does not end a line is invalid (RFC 9112 §2.2), even in a field that is omitted.
    (!lines.iter().any(|line| line.contains(&b'\r'))).then_some(())?;
    let mut fields = Vec::new();
    for (number, first) in lines.iter().enumerate() {
        if first.starts_with(b" ") || first.starts_with(b"\t") {
            // The previous line includes this line.
            (number > 0).then_some(())?;
            continue;
        }
        let is_fold = |line: &&&[u8]| line.starts_with(b" ") || line.starts_with(b"\t");
        let folds: Vec<_> = lines[number + 1..].iter().take_while(is_fold).collect();
        let colon = first.iter().position(|&byte| byte == b':')?;
        let (raw, rest) = (&first[..colon], &first[colon + 1..]);
        let words: Vec<_> = raw.split(|byte| b" \t".contains(byte)).collect();
        let says_length = |word: &[u8]| {
            let word = word.to_ascii_lowercase();
            word == b"content-length" || word == b"transfer-encoding"
        };
        let is_odd = words.len() > 1 || !folds.is_empty();
        if is_odd && (words.iter().any(|word| says_length(word)) || says_length(&words.concat())) {
            return None;
        }
        let name = trimmed(raw);
        if name.iter().any(|byte| b" \t".contains(byte)) {
            continue;
        }
        let parts = std::iter::once(rest).chain(folds.into_iter().copied()).map(trimmed);
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        let value = match parts[..] {
            [] => Cow::Borrowed(&b""[..]),
            [only] => Cow::Borrowed(only),
            _ => Cow::Owned(parts.join(&b' ')),
        };
        let is_field = !name.is_empty()
            && name.iter().copied().all(is_token)
            && value.iter().copied().all(is_text);
        is_field.then_some(())?;
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
    }
    Some(fields)
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    /// The next line, without its end.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n')?;
        self.at += length + 1;
        let line = &rest[..length];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Parses `name: value` (RFC 9112 §5), without whitespace before the colon and without folding.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().copied().all(is_text)
    {
        return None;
    }
    Some((String::from_utf8_lossy(name).to_ascii_lowercase(), trimmed(value)))
}

/// The value without surrounding spaces and tabs (`OWS`, RFC 9110 §5.6.3).
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| *byte != b' ' && *byte != b'\t';
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Whether the byte is a `tchar` (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the byte may be part of values and reason phrases (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Parses `HTTP/1.x CODE REASON` (RFC 9112 §4) into the minor version and the code. The reason and
/// the space before it may be missing, and there may be several spaces before the code.
pub(crate) fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (&minor, rest) = rest.split_first().filter(|(minor, _)| b"01".contains(minor))?;
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let (digits, reason) = rest[spaces..].split_at_checked(3)?;
    if spaces == 0
        || !digits.iter().all(u8::is_ascii_digit)
        || !matches!(reason.first(), None | Some(b' '))
        || !reason.iter().copied().all(is_text)
    {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    (code >= 100).then_some((minor - b'0', code))
}

/// A body, as far as its bytes have arrived.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// The positions of its bytes, in order.
    pub(crate) ranges: Vec<Range<usize>>,
    pub(crate) end: End,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The message is complete and ends at this position.
    At(usize),
    /// Only with the connection.
    WithConnection,
    /// The body is cut short or malformed.
    #[default]
    Never,
}

impl Body {
    /// The bytes of the body.
    pub(crate) fn contents(&self, bytes: &[u8]) -> Vec<u8> {
        self.ranges.iter().flat_map(|range| &bytes[range.clone()]).copied().collect()
    }
}

/// A body of `length` bytes from `start`, as far as they have arrived.
pub(crate) fn counted(bytes: &[u8], start: usize, length: u64) -> Body {
    let there = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len() - start);
    let all = start..start + there;
    let end = if there as u64 == length { End::At(all.end) } else { End::Never };
    Body { ranges: vec![all], end }
}

/// Decodes the chunked coding from `start` (RFC 9112 §7.1), within the proxy's limits: 16 digits
/// for a size, 64 characters for a size with the blanks after it, [`MAX_HEAD`] bytes for the
/// extensions of one chunk, and the same for the trailers.
pub(crate) fn chunked(bytes: &[u8], start: usize) -> Body {
    let mut body = Body::default();
    // The body counts as cut short unless the end is found.
    let _ = chunks(bytes, start, &mut body);
    body
}

/// Returns `None` if the coding is cut short or malformed.
fn chunks(bytes: &[u8], start: usize, body: &mut Body) -> Option<()> {
    let mut at = start;
    loop {
        let line_end = at + bytes[at..].iter().position(|&byte| byte == b'\n')?;
        let line = bytes[at..line_end].strip_suffix(b"\r")?;
        let size = chunk_size(line)?;
        at = line_end + 1;
        if size == 0 {
            body.end = End::At(trailers(bytes, at)?);
            return Some(());
        }
        let there = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len() - at);
        body.ranges.push(at..at + there);
        at += there;
        (bytes[at..].strip_prefix(b"\r\n").is_some() && there as u64 == size).then_some(())?;
        at += 2;
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let semicolon = line.iter().position(|&byte| byte == b';');
    let (size, extension) = line.split_at(semicolon.unwrap_or(line.len()));
    let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let blanks_follow = size[digits..].iter().all(|byte| b" \t".contains(byte));
    if !(1..=16).contains(&digits)
        || !blanks_follow
        || size.len() > 64
        || extension.contains(&b'\r')
        || extension.len() > 1 + MAX_HEAD
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()
}

/// Where the trailers end that begin at `start`. Lines may end in LF alone, except the last two.
fn trailers(bytes: &[u8], start: usize) -> Option<usize> {
    let mut lines = Lines { bytes, at: start };
    let mut fields = Vec::new();
    loop {
        match lines.next()? {
            b"" => break,
            line => fields.push(line),
        }
    }
    let block = &bytes[start..lines.at];
    let ends_well = fields.is_empty() && block == b"\r\n" || block.ends_with(b"\r\n\r\n");
    (ends_well && block.len() <= MAX_HEAD).then_some(())?;
    (lenient_fields(&fields)?.len() <= MAX_FIELDS).then_some(lines.at)
}

/// A response of the proxy, as far as its bytes have arrived.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) head: Head<'a>,
    pub(crate) body: Vec<u8>,
    /// Where the next response begins; `None` if this one is cut short.
    pub(crate) end: Option<usize>,
}

/// Parses the response at the beginning of `bytes`. Returns `None` if its head is cut short.
///
/// # Panics
///
/// If an HTTP client does not have to understand the response.
pub(crate) fn response(bytes: &[u8], to_head: bool) -> Option<Response<'_>> {
    let head = match head(bytes) {
        Parsed::Whole(head) => head,
        Parsed::Partial => return None,
        Parsed::Invalid => panic!("no head: {}", bytes.escape_ascii()),
    };
    let (_, status) = status_line(head.first_line).expect("a status line");
    let body = match (&head.all("transfer-encoding")[..], &head.all("content-length")[..]) {
        _ if to_head => counted(bytes, head.length, 0),
        ([b"chunked"], []) => chunked(bytes, head.length),
        ([], [length]) => {
            let length = std::str::from_utf8(length).expect("digits");
            counted(bytes, head.length, length.parse().expect("a length"))
        }
        other => panic!("no framing, or two: {other:?}"),
    };
    let end = match body.end {
        End::At(end) => Some(end),
        End::Never | End::WithConnection => None,
    };
    Some(Response { status, body: body.contents(bytes), head, end })
}
