//! One connection to an exporter: connect, send the request, await the head, read the body.
//!
//! This side of HTTP is our own but for the parsing of heads (httparse, which hyper uses too): the
//! body is read in the scraper's own task and taken apart where it lies, so that a chunk costs no
//! wake-up, no walk through a client's state machine and, but for small ones, no copy. `benches/README.md` has the
//! figures.

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
use crate::{deadline::Deadline, error::UpstreamError, exporter::Exporter};

/// How a response's body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The answer to `HEAD`.
    Bodiless,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// By the end of the connection.
    UntilClose,
}

impl Framing {
    /// The body's length, where the head says it.
    #[must_use]
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Bodiless | Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// An exporter's head, checked: its body can be passed on.
#[derive(Debug)]
pub struct UpstreamHead {
    /// The status: 200, another 2xx, or the exporter's own 4xx or 5xx.
    pub status: StatusCode,
    /// All its headers; see [`crate::relay::response_head`] for those that go on.
    pub headers: HeaderMap,
    /// How the body ends.
    pub framing: Framing,
    /// It has a `Content-Length` beside `chunked`, which counts nothing (RFC 9112 §6.3, item 3).
    pub length_ignored: bool,
}

/// Connects to the exporter, sends it the scraper's request and awaits the head.
///
/// Connecting gets the exporter's `connect-timeout`, all together gets until `deadline`. Dropping
/// the future ends the connection.
///
/// # Errors
/// Everything that a client sees as 502 or 504.
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

/// The same over a connection that is there already.
///
/// # Errors
/// Those of [`fetch`] but for the ones of connecting.
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

/// Refuses the heads whose body is no metrics, or has no end that can be trusted.
fn check(head: Head, exporter: &Exporter, bodiless: bool) -> Result<UpstreamHead, UpstreamError> {
    let status = head.status;
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        return Err(UpstreamError::Redirect);
    }
    let no_metrics = [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        // Nobody asked for a part.
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

/// One `chunked` or no coding at all (RFC 9112 §6.1). Beside it `Content-Length` counts nothing.
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

/// One number, which may be repeated (RFC 9112 §6.3, item 5).
///
/// # Errors
/// [`UpstreamError::Garbage`]: no number, or two that differ.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, UpstreamError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let garbage = || UpstreamError::Garbage("invalid Content-Length".into());
        for number in value.to_str().map_err(|_| garbage())?.split(',') {
            let number = number.trim_matches([' ', '\t']);
            // The standard library would take a sign too.
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
