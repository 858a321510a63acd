//! One connection to an exporter: connect, send the request, read the response head, read the body.
//!
//! This module implements the client side of HTTP/1.1 itself. Only the parser of heads is httparse,
//! which hyper uses too. The body is read in the task of the scraper and decoded in place. A chunk
//! therefore costs no wake-up and no pass through the state machine of an HTTP client. Only small
//! chunks are copied. See `benches/README.md` for figures.

mod body;
mod chunked;
mod connect;
mod fault;
mod head;
mod look_up;
mod pace;
mod request;
mod tidy;

use bytes::Bytes;
use hyper::{
    Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING},
    http::request::Parts,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use self::head::Head;
pub use self::{
    body::UpstreamBody,
    connect::{AnyStream, Connector, MakeStream, Stream},
    look_up::look_up,
};
use crate::common::{deadline::Deadline, error::UpstreamError, exporter::Exporter};

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

/// The checked response head of an exporter, whose body can be relayed.
#[derive(Debug)]
pub struct UpstreamHead {
    /// The status: 200, another 2xx, or the exporter's own 4xx or 5xx.
    pub status: StatusCode,
    /// All headers of the exporter. [`crate::scrape::relay::response_head`] selects those that are relayed.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// The head has both `Content-Length` and `Transfer-Encoding: chunked`. The length is ignored
    /// (RFC 9112 §6.3, item 3).
    pub length_ignored: bool,
}

/// Connects to the exporter, sends the scraper's request, and reads the response head.
///
/// The connection must be established within the exporter's `connect-timeout`, and everything must
/// be complete by `deadline`. Dropping the future closes the connection.
///
/// # Errors
///
/// Every error that is answered with 502 or 504.
pub async fn fetch(
    connector: &Connector,
    exporter: &Exporter,
    scraper: &Parts,
    forwarded: &str,
    deadline: Deadline,
) -> Result<(UpstreamHead, UpstreamBody), UpstreamError> {
    let stream = connector.connect(exporter, deadline).await?;
    exchange(stream, exporter, scraper, forwarded, deadline).await
}

/// Sends the scraper's request over an established connection, and reads the response head.
///
/// # Errors
///
/// The errors of [`fetch`], except those of connecting.
pub async fn exchange(
    mut stream: Stream,
    exporter: &Exporter,
    scraper: &Parts,
    forwarded: &str,
    deadline: Deadline,
) -> Result<(UpstreamHead, UpstreamBody), UpstreamError> {
    let request = request::build(exporter, scraper, forwarded, deadline.remaining(Instant::now()));
    let (head, unread) = timeout_at(deadline.instant(), ask(&mut stream, &request))
        .await
        .map_err(|_| UpstreamError::FirstByteTimeout)??;
    let head = check(head, exporter, scraper.method == Method::HEAD)?;
    let body = UpstreamBody::new(stream, head.framing, unread);
    Ok((head, body))
}

async fn ask(stream: &mut Stream, request: &[u8]) -> Result<(Head, Bytes), UpstreamError> {
    let sent = stream.send_at_once(request);
    stream.write_all(&request[sent..]).await.map_err(fault::before_head)?;
    stream.flush().await.map_err(fault::before_head)?;
    head::read(stream).await
}

/// Refuses a head whose body cannot be metrics, or whose body has no reliable end.
fn check(head: Head, exporter: &Exporter, bodiless: bool) -> Result<UpstreamHead, UpstreamError> {
    let status = head.status;
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        return Err(UpstreamError::Redirect);
    }
    let no_metrics = [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        // The request did not ask for a range.
        StatusCode::PARTIAL_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    if no_metrics.contains(&status) {
        return Err(UpstreamError::NoMetrics(status));
    }
    let framing = if bodiless { Framing::Bodiless } else { framing(head.version, &head.headers)? };
    if let (Some(length), Some(most)) = (framing.length(), exporter.rules.max_body) {
        if length > most {
            return Err(UpstreamError::TooLarge);
        }
    }
    let length_ignored = framing == Framing::Chunked && head.headers.contains_key(CONTENT_LENGTH);
    Ok(UpstreamHead { status, headers: head.headers, framing, length_ignored })
}

/// Accepts a single `chunked` or no transfer coding (RFC 9112 §6.1). `chunked` overrides
/// `Content-Length`.
fn framing(version: Version, headers: &HeaderMap) -> Result<Framing, UpstreamError> {
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
