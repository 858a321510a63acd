//! HTTP/1.1 read anew after RFC 9112: the reference that the proxy is compared with. It shares no
//! code with the proxy nor with the libraries that the proxy reads HTTP with.

use std::ops::Range;

/// Most fields of a head, and most trailers.
pub(crate) const MAX_FIELDS: usize = 100;

/// Most bytes of a head, of all chunk extensions of a body, and of its trailers.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// A head as it stands.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) first_line: &'a [u8],
    /// Names in lower case; values without the white space around them.
    pub(crate) fields: Vec<(String, &'a [u8])>,
    /// Its bytes, the empty line included.
    pub(crate) length: usize,
}

/// What the bytes up to an empty line are.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    Whole(Head<'a>),
    /// The empty line is not there.
    Partial,
    Invalid,
}

impl<'a> Head<'a> {
    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(have, _)| have == name).map(|(_, value)| *value).collect()
    }
}

/// Reads a head: lines end in CRLF, or in LF alone (RFC 9112 §2.2).
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
            Some(field) if fields.len() < MAX_FIELDS => fields.push(field),
            Some(_) | None => return Parsed::Invalid,
        }
    }
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    /// The next line without its end.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n')?;
        self.at += length + 1;
        let line = &rest[..length];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `name: value` (RFC 9112 §5): no white space before the colon, no folding.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().copied().all(is_text)
    {
        return None;
    }
    Some((String::from_utf8_lossy(name).to_ascii_lowercase(), trimmed(value)))
}

/// Without spaces and tabs around it (`OWS`, RFC 9110 §5.6.3).
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| *byte != b' ' && *byte != b'\t';
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    &value[start..end]
}

/// `tchar` (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What values and reason phrases are made of (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `HTTP/1.x CODE REASON` (RFC 9112 §4): the minor version and the code. Only the reason may be
/// missing, not the space before it.
pub(crate) fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let &[minor @ (b'0' | b'1'), b' ', a, b, c, b' ', ref reason @ ..] = rest else {
        return None;
    };
    let digits = [a, b, c];
    if !digits.iter().all(u8::is_ascii_digit) || !reason.iter().copied().all(is_text) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    (code >= 100).then_some((minor - b'0', code))
}

/// A body as far as it is there.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Where its bytes stand, in order.
    pub(crate) ranges: Vec<Range<usize>>,
    pub(crate) end: End,
}

/// What ends a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The message is complete with so many bytes.
    At(usize),
    /// Only the end of the connection.
    WithConnection,
    /// What is there is cut short or broken.
    #[default]
    Never,
}

impl Body {
    /// Its bytes.
    pub(crate) fn contents(&self, bytes: &[u8]) -> Vec<u8> {
        self.ranges.iter().flat_map(|range| &bytes[range.clone()]).copied().collect()
    }
}

/// `length` bytes from `start`, as far as they are there.
pub(crate) fn counted(bytes: &[u8], start: usize, length: u64) -> Body {
    let there = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len() - start);
    let all = start..start + there;
    let end = if there as u64 == length { End::At(all.end) } else { End::Never };
    Body { ranges: vec![all], end }
}

/// The chunked coding from `start` (RFC 9112 §7.1), within the proxy's limits: at most 16 digits
/// of size and 64 with the blanks behind them, [`MAX_HEAD`] bytes of extensions and of trailers.
pub(crate) fn chunked(bytes: &[u8], start: usize) -> Body {
    let mut body = Body::default();
    // Stays cut short unless the end is found.
    let _ = chunks(bytes, start, &mut body);
    body
}

/// `None` when the coding is cut short or broken.
fn chunks(bytes: &[u8], start: usize, body: &mut Body) -> Option<()> {
    let mut at = start;
    let mut extensions = 0;
    loop {
        let line_end = at + bytes[at..].iter().position(|&byte| byte == b'\n')?;
        let line = bytes[at..line_end].strip_suffix(b"\r")?;
        let size = chunk_size(line, &mut extensions)?;
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

fn chunk_size(line: &[u8], extensions: &mut usize) -> Option<u64> {
    let semicolon = line.iter().position(|&byte| byte == b';');
    let (size, extension) = line.split_at(semicolon.unwrap_or(line.len()));
    *extensions += extension.len().saturating_sub(1);
    let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let blanks_follow = size[digits..].iter().all(|byte| b" \t".contains(byte));
    if !(1..=16).contains(&digits)
        || !blanks_follow
        || size.len() > 64
        || extension.contains(&b'\r')
        || *extensions > MAX_HEAD
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()
}

/// Where the trailers end that begin at `start`. Lines may end in LF alone, but for the last two.
fn trailers(bytes: &[u8], start: usize) -> Option<usize> {
    let mut lines = Lines { bytes, at: start };
    let mut fields = 0;
    while !lines.next()?.is_empty() {
        fields += 1;
    }
    let block = &bytes[start..lines.at];
    let ends_well = fields == 0 && block == b"\r\n" || block.ends_with(b"\r\n\r\n");
    let all_are_fields =
        (Lines { bytes: block, at: 0 }).take(fields).all(|line| field(line).is_some());
    (ends_well && all_are_fields && fields <= MAX_FIELDS && block.len() <= MAX_HEAD)
        .then_some(lines.at)
}

/// One response of those that the proxy wrote, as far as it is there.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) head: Head<'a>,
    pub(crate) body: Vec<u8>,
    /// Where the next response begins; absent when this one is cut short.
    pub(crate) end: Option<usize>,
}

/// Reads what the proxy wrote: a response at the beginning of `bytes`, or `None` when even its
/// head is cut short.
///
/// # Panics
/// When it is none that an HTTP client has to understand.
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
