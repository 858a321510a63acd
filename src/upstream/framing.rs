//! How the end of an exporter's body is found, by its response head (RFC 9112 §6).

use hyper::{
    Version,
    header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING},
};

use crate::common::error::UpstreamError;

/// How the body of a response is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body: the response to `HEAD`.
    Bodiless,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// No delimiter: the body ends with the connection.
    UntilClose,
}

impl Framing {
    /// The length of the body in bytes, if the head announces it.
    #[must_use]
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Bodiless | Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// Accepts a single `chunked` or no transfer coding (RFC 9112 §6.1). `chunked` overrides
/// `Content-Length`.
pub(super) fn framing(version: Version, headers: &HeaderMap) -> Result<Framing, UpstreamError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(only), None)
            if version == Version::HTTP_11 && only.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            return Ok(Framing::Chunked);
        }
        (Some(_), _) => return Err(UpstreamError::TransferCoding),
    }
    Ok(content_length(headers)?.map_or(Framing::UntilClose, Framing::Length))
}

/// Parses `Content-Length`: one number, which may be repeated (RFC 9112 §6.3, item 5).
///
/// # Errors
///
/// [`UpstreamError::Garbage`] if a value is not a number, or if two numbers differ.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, UpstreamError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let garbage = || UpstreamError::Garbage("invalid Content-Length".into());
        for number in value.to_str().map_err(|_| garbage())?.split(',') {
            let number = number.trim_matches([' ', '\t']);
            // The standard library would also accept a sign.
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(garbage());
            }
            let number = number.parse().map_err(|_| garbage())?;
            if length.replace(number).is_some_and(|earlier: u64| earlier != number) {
                return Err(garbage());
            }
        }
    }
    Ok(length)
}
