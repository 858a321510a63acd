//! Decodes the chunked coding (RFC 9112 §7.1) of an exporter's body, in place.

use bytes::{Buf, Bytes};

use super::tidy;

/// Limit in bytes for the extensions of one chunk, and for the trailers of a body.
const MAX_NOISE: usize = 16 * 1024;

/// Limit for the digits of a chunk size: enough for 64 bits.
const MAX_DIGITS: usize = 16;

/// Limit for the digits and blanks of a chunk size. Some servers pad the size with blanks to eight
/// characters.
const MAX_SIZE: usize = 64;

/// Limit in bytes for small chunks that are copied together.
const GATHERED: usize = 4 * 1024;

/// Limit for the number of trailer fields.
const MAX_TRAILERS: usize = 100;

/// The body does not follow the framing of RFC 9112.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// Before the first digit of a size.
    Start,
    /// After a digit. The value is the size so far.
    Size(u64),
    /// In the whitespace that some exporters send after the size.
    Space(u64),
    /// In a chunk extension, which is ignored.
    Extension(u64),
    /// Between the CR and the LF of the size line.
    SizeLf(u64),
    /// In the data. The value is the number of bytes that follow, and never 0.
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty line that ends the body.
    LineStart,
    Trailer,
    TrailerLf,
    /// Between the CR and the LF of the empty last line.
    LastLf,
    Done,
    /// Not RFC 9112. This state is final.
    Broken,
}

/// Decodes a chunked body that arrives in pieces of any size.
#[derive(Debug)]
pub(super) struct Chunked {
    state: ChunkState,
    /// Number of digits and blanks of the current chunk size so far.
    size: usize,
    /// Number of bytes of the current chunk's extensions so far.
    extensions: usize,
    /// The trailers so far. They are checked at the end of the body and not relayed.
    trailers: Vec<u8>,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: ChunkState::Start, size: 0, extensions: 0, trailers: Vec::new() }
    }

    /// Whether the body is complete: the last chunk, the trailers and the empty line were read.
    pub(super) fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// The next data in `input`. The result shares the memory of `input`, except for small chunks,
    /// which are copied together: a separate result for each would cost a hundred times its size.
    /// Returns `None` if all of `input` is used up, or if the body is complete and the rest of
    /// `input` is not part of it.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the framing is malformed. All later calls return the same error.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Broken> {
        let mut used = 0;
        if self.state == ChunkState::Broken {
            return Err(Broken);
        }
        for &byte in input.iter() {
            if matches!(self.state, ChunkState::Data(_) | ChunkState::Done) {
                break;
            }
            if self.state == ChunkState::Start {
                if let Some((gathered, taken)) = gather(&input[used..]) {
                    input.advance(used + taken);
                    return Ok(Some(gathered));
                }
            }
            self.state = self.step(byte).inspect_err(|Broken| self.state = ChunkState::Broken)?;
            used += 1;
        }
        input.advance(used);
        let ChunkState::Data(left) = self.state else {
            return Ok(None);
        };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if count == 0 {
            return Ok(None);
        }
        // Lossless: a length in memory.
        let left = left - count as u64;
        self.state = if left == 0 { ChunkState::DataCr } else { ChunkState::Data(left) };
        Ok(Some(input.split_to(count)))
    }

    /// Processes one byte of framing.
    fn step(&mut self, byte: u8) -> Result<ChunkState, Broken> {
        let next = match (self.state, byte) {
            (ChunkState::Start, _) => {
                self.size = 1;
                ChunkState::Size(digit(byte)?)
            }
            (
                ChunkState::Size(size) | ChunkState::Space(size) | ChunkState::Extension(size),
                b'\r',
            ) => ChunkState::SizeLf(size),
            (ChunkState::Size(size) | ChunkState::Space(size), b' ' | b'\t') => {
                self.size = bounded(self.size + 1, MAX_SIZE)?;
                ChunkState::Space(size)
            }
            (ChunkState::Size(size) | ChunkState::Space(size), b';') => {
                self.extensions = 0;
                ChunkState::Extension(size)
            }
            (ChunkState::Size(size), _) => {
                self.size = bounded(self.size + 1, MAX_DIGITS)?;
                let shifted = size.checked_mul(16).ok_or(Broken)?;
                ChunkState::Size(shifted + digit(byte)?)
            }
            (ChunkState::Extension(size), _) if byte != b'\n' => {
                self.extensions = bounded(self.extensions + 1, MAX_NOISE)?;
                ChunkState::Extension(size)
            }
            (ChunkState::SizeLf(0), b'\n') => ChunkState::LineStart,
            (ChunkState::SizeLf(size), b'\n') => ChunkState::Data(size),
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Start,
            (ChunkState::LineStart, b'\r') => ChunkState::LastLf,
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
            (ChunkState::LineStart | ChunkState::Trailer, _) => ChunkState::Trailer,
            (ChunkState::TrailerLf, b'\n') => ChunkState::LineStart,
            (ChunkState::LastLf, b'\n') => ChunkState::Done,
            (
                ChunkState::Space(_)
                | ChunkState::Extension(_)
                | ChunkState::SizeLf(_)
                | ChunkState::Data(_)
                | ChunkState::DataCr
                | ChunkState::DataLf
                | ChunkState::TrailerLf
                | ChunkState::LastLf
                | ChunkState::Done
                | ChunkState::Broken,
                _,
            ) => return Err(Broken),
        };
        if matches!(
            self.state,
            ChunkState::LineStart
                | ChunkState::Trailer
                | ChunkState::TrailerLf
                | ChunkState::LastLf
        ) {
            self.keep_trailer(byte)?;
        }
        if next == ChunkState::Done {
            self.judge_trailers()?;
        }
        Ok(next)
    }

    fn keep_trailer(&mut self, byte: u8) -> Result<(), Broken> {
        if self.trailers.len() == MAX_NOISE {
            return Err(Broken);
        }
        self.trailers.push(byte);
        Ok(())
    }

    /// Trailers are not relayed, but they are checked: malformed trailers are a sign that the body
    /// is not what it seems.
    fn judge_trailers(&mut self) -> Result<(), Broken> {
        let trailers = std::mem::take(&mut self.trailers);
        let is_sound = |trailers: &[u8]| {
            let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
            let parsed = httparse::parse_headers(trailers, &mut fields);
            matches!(parsed, Ok(httparse::Status::Complete((length, _))) if length == trailers.len())
        };
        let is_sound =
            is_sound(&trailers) || tidy::fields(&trailers).is_some_and(|tidied| is_sound(&tidied));
        if is_sound { Ok(()) } else { Err(Broken) }
    }
}

/// The data of the small chunks at the beginning of `input`, and how many bytes they use together
/// with their framing. `None` if there are fewer than two small chunks.
fn gather(input: &[u8]) -> Option<(Bytes, usize)> {
    let (first, behind) = small_chunk(input)?;
    small_chunk(behind)?;
    let mut gathered = Vec::with_capacity(GATHERED);
    gathered.extend_from_slice(first);
    let mut rest = behind;
    loop {
        // Some servers write each byte as a chunk. Without this loop, such chunks cost twice as much.
        while let [b'1', b'\r', b'\n', byte, b'\r', b'\n', behind @ ..] = rest {
            if gathered.len() == GATHERED {
                break;
            }
            gathered.push(*byte);
            rest = behind;
        }
        let Some((data, behind)) = small_chunk(rest) else { break };
        if gathered.len() + data.len() > GATHERED {
            break;
        }
        gathered.extend_from_slice(data);
        rest = behind;
    }
    Some((gathered.into(), input.len() - rest.len()))
}

/// A complete chunk of 1 to 255 bytes with minimal framing, and the bytes after it.
fn small_chunk(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = match input {
        [digit, b'\r', b'\n', rest @ ..] => (char::from(*digit).to_digit(16)?, rest),
        [high, low, b'\r', b'\n', rest @ ..] => {
            let (high, low) = (char::from(*high).to_digit(16)?, char::from(*low).to_digit(16)?);
            (high * 16 + low, rest)
        }
        _ => return None,
    };
    // The last chunk has size 0 and is not handled here.
    let size = usize::try_from(size).ok().filter(|size| *size > 0)?;
    let (data, rest) = rest.split_at_checked(size)?;
    Some((data, rest.strip_prefix(b"\r\n")?))
}

fn bounded(count: usize, most: usize) -> Result<usize, Broken> {
    if count > most { Err(Broken) } else { Ok(count) }
}

fn digit(byte: u8) -> Result<u64, Broken> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and whether it is complete, with the input fed in pieces of this size.
    fn decoded(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Broken> {
        let mut chunked = Chunked::new();
        let mut body = Vec::new();
        for piece in input.chunks(piece) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(data) = chunked.next(&mut piece)? {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
            }
            assert!(piece.is_empty() || chunked.is_done(), "{piece:?} is left");
        }
        Ok((body, chunked.is_done()))
    }

    /// The same for every size of the pieces.
    fn in_any_pieces(input: &[u8]) -> Result<(Vec<u8>, bool), Broken> {
        let whole = decoded(input, input.len().max(1));
        for piece in 1..input.len() {
            assert_eq!(decoded(input, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn chunks_extensions_whitespace_and_trailers_are_decoded() {
        let input = b"4\r\nWiki\r\n0A ;a=\"b\"\r\n0123456789\r\nb\t \r\nhello world\r\n\
            000\r\nExpires: never\r\nB:\r\n\r\nrest";
        let body = b"Wiki0123456789hello world".to_vec();
        assert_eq!(in_any_pieces(input), Ok((body, true)));
        assert_eq!(in_any_pieces(b"0\r\n\r\n"), Ok((Vec::new(), true)));
    }

    #[test]
    fn small_chunks_are_gathered_among_other_chunks() {
        let mut input = Vec::new();
        let mut body = Vec::new();
        let sizes = [1, 2, 15, 16, 255, 1, 1, 256, 1, 255, 255, 4096, 3, 1];
        for (number, size) in sizes.into_iter().cycle().take(200).enumerate() {
            let data = vec![b'a' + u8::try_from(number % 26).unwrap_or_default(); size];
            let extension = if number % 13 == 5 { ";x=y" } else { "" };
            input.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
            input.extend_from_slice(&[&data[..], b"\r\n"].concat());
            body.extend_from_slice(&data);
        }
        input.extend_from_slice(b"0\r\n\r\n");
        for piece in [1, 2, 3, 7, 100, 1000, 4096, input.len()] {
            assert_eq!(decoded(&input, piece), Ok((body.clone(), true)), "in pieces of {piece}");
        }

        for (chunk, count) in [("1\r\na\r\n", 10_000), ("2\r\nab\r\n", 5000)] {
            let mut input = Bytes::from(chunk.repeat(count));
            let mut chunked = Chunked::new();
            let mut pieces = Vec::new();
            while let Ok(Some(data)) = chunked.next(&mut input) {
                pieces.push(data.len());
            }
            assert_eq!(pieces, [4096, 4096, 1808], "{chunk:?}");
        }
    }

    #[test]
    fn complete_chunks_of_up_to_255_bytes_are_small() {
        for size in 1..=255 {
            let data = "x".repeat(size);
            let chunk = format!("{size:x}\r\n{data}\r\n");
            assert_eq!(small_chunk(chunk.as_bytes()), Some((data.as_bytes(), &b""[..])), "{size}");
        }
        for other in ["0\r\n\r\n", "100\r\n", "2\r\nx\r\n", "1\r\nx", "1;a\r\nx\r\n", "g\r\nx\r\n"]
        {
            assert_eq!(small_chunk(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn line_ends_in_the_data_do_not_end_a_small_chunk() {
        for first in 1..=255 {
            for second in [1, 12, 32, 255] {
                let data = |size: usize| "\r\n".repeat(128)[256 - size..].to_owned();
                let chunk = |size| format!("{size:x}\r\n{}\r\n", data(size));
                let input = format!("{}{}0\r\n\r\n", chunk(first), chunk(second));
                let body = (data(first) + &data(second)).into_bytes();
                let found = decoded(input.as_bytes(), input.len());
                assert_eq!(found, Ok((body, true)), "chunks of {first} and {second} bytes");
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_not_complete() {
        let input = b"4\r\nWiki\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for cut in 0..input.len() {
            let (body, whole) = in_any_pieces(&input[..cut]).expect("no error before the cut");
            assert!(!whole && b"Wikiabc".starts_with(&body), "cut at {cut}");
        }
        assert_eq!(in_any_pieces(input), Ok((b"Wikiabc".to_vec(), true)));
    }

    #[test]
    fn bad_framing_is_an_error() {
        for input in [
            b"zz\r\n" as &[u8],
            b"-1\r\n",
            b"+1\r\n",
            b"0x4\r\nWiki\r\n",
            b"\r\n",
            b";a\r\n",
            b" 4\r\nWiki\r\n",
            b"4 4\r\n",
            b"4\nWiki\r\n",
            b"4\r\r\n",
            b"4\r\nWikiX\r\n",
            b"4\r\nWiki\n",
            b"4\r\nWiki\rX",
            b"4;a\nWiki",
            b"10000000000000000\r\n",
            b"11111111111111111\r\n",
            b"0\r\n\rX",
            b"0\r\nA: b\rX",
            b"0\r\nno trailer\r\n\r\n",
            b"0\r\nA\0: b\r\n\r\n",
            b"0\r\nfoo 1\r\n\r\n",
        ] {
            assert_eq!(in_any_pieces(input), Err(Broken), "{}", input.escape_ascii());
        }
        assert!(in_any_pieces(b"ffffffffffffffff\r\nx").is_ok(), "the largest size");
    }

    #[test]
    fn an_error_is_final() {
        let mut chunked = Chunked::new();
        for piece in [b"0\r\nno trailer\r\n\r" as &[u8], b"\n", b"\n", b"0\r\n\r\n"] {
            let decoded = chunked.next(&mut Bytes::from_static(piece));
            assert_eq!(
                decoded.is_err(),
                !piece.starts_with(b"0\r\nno"),
                "{}",
                piece.escape_ascii()
            );
            assert!(!chunked.is_done());
        }
    }

    #[test]
    fn f20_extensions_are_bounded_for_each_chunk_and_not_for_all_together() {
        let data = "x".repeat(4096);
        let input = format!("1000;thirteen=byte\r\n{data}\r\n").repeat(3000) + "0\r\n\r\n";
        let whole = (data.repeat(3000).into_bytes(), true);
        assert!(
            decoded(input.as_bytes(), 65536) == Ok(whole),
            "12 MB with an extension in each chunk"
        );
        let full = format!("1;{}\r\nx\r\n", "x".repeat(MAX_NOISE)).repeat(20) + "0\r\n\r\n";
        assert_eq!(decoded(full.as_bytes(), 1000), Ok((vec![b'x'; 20], true)));
    }

    #[test]
    fn f21_trailers_may_be_folded_or_have_blanks_before_the_colon() {
        for trailers in ["A : b\r\n", "A: b\r\n c\r\n", "A b: c\r\n", "A: b\r\n \r\n"] {
            let input = format!("1\r\nx\r\n0\r\n{trailers}\r\n");
            assert_eq!(in_any_pieces(input.as_bytes()), Ok((b"x".to_vec(), true)), "{trailers:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let noise = |length| "x".repeat(length);
        let extension = |length| format!("0;{}\r\n\r\n", noise(length)).into_bytes();
        assert_eq!(decoded(&extension(MAX_NOISE), 1000), Ok((Vec::new(), true)));
        assert_eq!(decoded(&extension(MAX_NOISE + 1), 1000), Err(Broken));
        let padded = |digits: usize, blanks: usize| {
            format!("{:0digits$}{}\r\nx\r\n0\r\n\r\n", 1, " ".repeat(blanks)).into_bytes()
        };
        assert_eq!(decoded(&padded(16, 48), 1000), Ok((b"x".to_vec(), true)));
        assert_eq!(decoded(&padded(17, 0), 1000), Err(Broken));
        assert_eq!(decoded(&padded(16, 49), 1000), Err(Broken));
        let late = format!("1;{}\r\nx\r\n1;{}\r\nx\r\n", noise(9), noise(MAX_NOISE + 1));
        assert_eq!(decoded(late.as_bytes(), 1000), Err(Broken));

        let trailer = |length| format!("0\r\na:{}\r\n\r\n", noise(length)).into_bytes();
        assert_eq!(decoded(&trailer(MAX_NOISE - 6), 1000), Ok((Vec::new(), true)));
        assert_eq!(decoded(&trailer(MAX_NOISE - 5), 1000), Err(Broken));
        let many = |count: usize| format!("0\r\n{}\r\n", "a:\r\n".repeat(count)).into_bytes();
        assert_eq!(decoded(&many(MAX_TRAILERS), 1000), Ok((Vec::new(), true)));
        assert_eq!(decoded(&many(MAX_TRAILERS + 1), 1000), Err(Broken));
    }
}
