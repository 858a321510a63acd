//! The head of an exporter's answer.

use bytes::{Buf, Bytes, BytesMut};
use hyper::{
    StatusCode, Version,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::io::AsyncReadExt;

use super::{Stream, body::READ_SIZE, fault};
use crate::error::UpstreamError;

/// Largest head that is accepted, in bytes; also all informational ones together.
const MAX_HEAD: usize = 16 * 1024;

/// Most header fields.
const MAX_FIELDS: usize = 100;

/// A head as it arrived.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

/// Reads up to the end of the final head, and returns with it the bytes behind it.
///
/// Informational heads (RFC 9110 §15.2) are skipped, but for 101, which is the end of HTTP.
pub(super) async fn read(stream: &mut Stream) -> Result<(Head, Bytes), UpstreamError> {
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    let (mut skipped, mut parsed) = (0_usize, 0_usize);
    loop {
        // Servers skip empty lines before a request (RFC 9112 §2.2); before an answer is nothing.
        if let Some(b'\r' | b'\n') = buffer.first() {
            return Err(UpstreamError::Garbage("an empty line before the head".into()));
        }
        // Parsing anew for each byte of a dripping head would cost its length squared.
        let fresh = buffer.len() >= 2 * parsed || ends_a_head(&buffer[parsed.saturating_sub(3)..]);
        if fresh && let Some((head, length)) = parse(&buffer)? {
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

/// A whole head and its length, if it is there.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, UpstreamError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(UpstreamError::HeadTooLarge),
        Err(error) => return Err(UpstreamError::Garbage(error.into())),
    };
    // httparse does without, RFC 9112 §4 does not: only what follows the space may be empty.
    if bytes.get("HTTP/1.1 200".len()) != Some(&b' ') {
        return Err(UpstreamError::Garbage("no space after the status".into()));
    }
    let garbage = |error: hyper::http::Error| UpstreamError::Garbage(error.into());
    // Both are there in a head that is complete.
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
