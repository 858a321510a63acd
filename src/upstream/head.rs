//! Reads and parses the head of an exporter's response.

use bytes::{Buf, Bytes, BytesMut};
use hyper::{
    StatusCode, Version,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::io::AsyncReadExt;

use super::{connect::Stream, fault, read_coalescing::READ_SIZE, tidy};
use crate::common::error::{Cause, UpstreamError};

/// Largest head in bytes, including all informational heads before it.
const MAX_HEAD: usize = 16 * 1024;

/// Limit for the number of header fields.
const MAX_FIELDS: usize = 100;

/// A parsed head, before any checks.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

/// Reads up to the end of the final head. Returns the head, and the bytes after it that were
/// already read.
///
/// Informational heads (RFC 9110 §15.2) are skipped, except 101, which ends HTTP on the connection.
pub(super) async fn read(stream: &mut Stream) -> Result<(Head, Bytes), UpstreamError> {
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    let (mut skipped, mut parsed) = (0_usize, 0_usize);
    loop {
        // A server may skip empty lines before a request (RFC 9112 §2.2). Before a response no
        // empty line is allowed.
        if let Some(b'\r' | b'\n') = buffer.first() {
            return Err(UpstreamError::Garbage("empty line before the response head".into()));
        }
        // Parsing the head again after each byte that arrives would be quadratic in its length.
        let fresh = buffer.len() >= 2 * parsed || ends_a_head(&buffer[parsed.saturating_sub(3)..]);
        let complete = if fresh { parse(&buffer)? } else { None };
        if let Some((head, length)) = complete {
            skipped += length;
            if skipped > MAX_HEAD {
                return Err(UpstreamError::HeadTooLarge);
            }
            buffer.advance(length);
            parsed = 0;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((head, buffer.freeze()));
            }
            continue;
        }
        if fresh {
            parsed = buffer.len();
        }
        if skipped + buffer.len() >= MAX_HEAD {
            return Err(UpstreamError::HeadTooLarge);
        }
        if stream.read_buf(&mut buffer).await.map_err(fault::before_head)? == 0 {
            return Err(UpstreamError::Closed);
        }
    }
}

fn ends_a_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|window| window == b"\n\n")
        || bytes.windows(3).any(|window| window == b"\n\r\n")
}

/// Parses a complete head and returns it with its length in bytes. `None` if it is not complete
/// yet.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, UpstreamError> {
    match parse_strictly(bytes) {
        Err(ParseError::Fields(error)) => match end_of_head(bytes) {
            Some(length) => {
                let tidied = tidy::head(&bytes[..length]).ok_or_else(|| garbage(error))?;
                let parsed = parse_strictly(&tidied).map_err(UpstreamError::from)?;
                Ok(parsed.map(|(head, _)| (head, length)))
            }
            None => Ok(None),
        },
        parsed => parsed.map_err(UpstreamError::from),
    }
}

/// Why a head could not be parsed.
enum ParseError {
    /// A malformed field line, which [`tidy`] may be able to repair.
    Fields(httparse::Error),
    Other(UpstreamError),
}

impl From<ParseError> for UpstreamError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Fields(error) => garbage(error),
            ParseError::Other(error) => error,
        }
    }
}

fn garbage(error: impl Into<Cause>) -> UpstreamError {
    UpstreamError::Garbage(error.into())
}

/// Accepts field lines strictly by RFC 9112. The status line may end after the status, and may have
/// several spaces before the status: curl and Prometheus accept both.
fn parse_strictly(bytes: &[u8]) -> Result<Option<(Head, usize)>, ParseError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = httparse::ParserConfig::default()
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .parse_response(&mut response, bytes);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ParseError::Other(UpstreamError::HeadTooLarge));
        }
        Err(error @ (httparse::Error::HeaderName | httparse::Error::HeaderValue)) => {
            return Err(ParseError::Fields(error));
        }
        Err(error) => return Err(ParseError::Other(garbage(error))),
    };
    let garbage = |error: hyper::http::Error| ParseError::Other(garbage(error));
    // A complete head has both.
    let status = StatusCode::from_u16(response.code.unwrap_or_default());
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        headers.append(
            name.map_err(|error| garbage(error.into()))?,
            value.map_err(|error| garbage(error.into()))?,
        );
    }
    let status = status.map_err(|error| garbage(error.into()))?;
    Ok(Some((Head { status, version, headers }, length)))
}

/// The position after the first empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    bytes.split_inclusive(|&byte| byte == b'\n').find_map(|line| {
        end += line.len();
        matches!(line, b"\n" | b"\r\n").then_some(end)
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// The head that an exporter sends with these bytes, which arrive at once.
    async fn read_from(bytes: &str) -> Result<(Head, Bytes), UpstreamError> {
        let (mut exporter, stream) = duplex(4 * MAX_HEAD);
        exporter.write_all(bytes.as_bytes()).await.expect("there is room");
        drop(exporter);
        read(&mut Stream::other(stream)).await
    }

    #[tokio::test]
    async fn all_heads_together_have_at_most_16_kib() {
        let head =
            |length: usize| format!("HTTP/1.1 200 OK\r\na: {:x<1$}\r\n\r\n", "", length - 24);
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let rest = MAX_HEAD - interim.len();
        for allowed in [head(MAX_HEAD) + "a 1\n", interim.to_owned() + &head(rest)] {
            let read = read_from(&allowed).await;
            assert!(read.is_ok(), "{read:?}");
        }
        for refused in [head(MAX_HEAD + 1) + "a 1\n", interim.to_owned() + &head(rest + 1)] {
            let read = read_from(&refused).await;
            assert!(matches!(read, Err(UpstreamError::HeadTooLarge)), "{read:?}");
        }
    }

    #[test]
    fn an_empty_line_ends_a_head() {
        for (bytes, ends) in [
            ("\r\n\r\n", true),
            ("a\n\nb", true),
            ("a\n\r\n", true),
            ("a\r\nb", false),
            ("\r\n\r", false),
        ] {
            assert_eq!(ends_a_head(bytes.as_bytes()), ends, "{bytes:?}");
        }
    }
}
