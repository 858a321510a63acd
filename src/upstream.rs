//! One connection to an exporter: connect, send the request, await the head, read the body.
//!
//! The connection is not spawned: [`UpstreamBody`] holds it and polls it in the scraper's own
//! task. hyper's body channel holds one frame, so with a task of its own every 4 KiB chunk would
//! cost two wake-ups, a TLS record and a system call.

mod connect;
mod fault;
mod request;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Response, StatusCode, Version,
    body::{Body, Incoming},
    client::conn::http1,
    header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING},
    http::request::Parts,
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use self::connect::Stream;
use crate::{
    deadline::Deadline,
    error::{Abort, UpstreamError},
    exporter::Exporter,
};

/// Largest head that is accepted, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Bytes asked for in one read. hyper holds a buffer of this size for as long as the scrape lasts,
/// also while the scraper does not read.
const READ_SIZE: usize = 64 * 1024;

type Connection = http1::Connection<TokioIo<Stream>, Empty<Bytes>>;

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
    /// The status: 200, or the exporter's own 4xx or 5xx.
    pub status: StatusCode,
    /// All its headers; see [`crate::relay::response_head`] for those that go on.
    pub headers: HeaderMap,
    /// How the body ends.
    pub framing: Framing,
}

/// Sends the scraper's request to the exporter and awaits the head.
///
/// Connecting gets the exporter's `connect-timeout`, all together gets until `deadline`. Dropping
/// the future ends the connection.
///
/// # Errors
/// Everything that a client sees as 502 or 504.
pub async fn fetch(
    exporter: &Exporter,
    scraper: &Parts,
    forwarded: &str,
    deadline: Deadline,
) -> Result<(UpstreamHead, UpstreamBody), UpstreamError> {
    let stream = connect::connect(exporter, deadline).await?;
    let request = request::build(exporter, scraper, forwarded, deadline.remaining(Instant::now()))?;
    let bodiless = request.method() == hyper::Method::HEAD;
    let (mut sender, mut connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .read_buf_exact_size(Some(READ_SIZE))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(fault::before_head)?;

    let mut answer = Box::pin(sender.send_request(request));
    let mut connection_ended = false;
    let answer = poll_fn(|cx| {
        // The answer may be there only after the connection was driven, hence the second look.
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        // Its error, if any, reaches us as the answer.
        if !connection_ended && Pin::new(&mut connection).poll(cx).is_ready() {
            connection_ended = true;
        }
        answer.as_mut().poll(cx)
    });
    let response = timeout_at(deadline.instant(), answer)
        .await
        .map_err(|_| UpstreamError::FirstByteTimeout)?
        .map_err(fault::before_head)?;
    let (head, incoming) = check(response, exporter, bodiless)?;
    let connection = (!connection_ended).then_some(connection);
    Ok((head, UpstreamBody { incoming, connection, _sender: sender }))
}

/// Refuses the heads whose body is no metrics, or has no end that can be trusted.
fn check(
    response: Response<Incoming>,
    exporter: &Exporter,
    bodiless: bool,
) -> Result<(UpstreamHead, Incoming), UpstreamError> {
    let (head, incoming) = response.into_parts();
    let status = head.status;
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        return Err(UpstreamError::Redirect);
    }
    let no_metrics = [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    if status.is_informational() || no_metrics.contains(&status) {
        return Err(UpstreamError::NoMetrics(status));
    }
    let framing =
        if bodiless { Framing::Bodiless } else { framing(head.version, &head.headers, &incoming)? };
    if let (Some(length), Some(most)) = (framing.length(), exporter.rules.max_body)
        && length > most
    {
        return Err(UpstreamError::TooLarge);
    }
    Ok((UpstreamHead { status, headers: head.headers, framing }, incoming))
}

/// hyper reads a coding other than a final `chunked` until the connection ends, so the header is
/// looked at here: one `chunked` or none (RFC 9112 §6.1). Beside it `Content-Length` counts
/// nothing.
fn framing(
    version: Version,
    headers: &HeaderMap,
    incoming: &Incoming,
) -> Result<Framing, UpstreamError> {
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
    if !headers.contains_key(CONTENT_LENGTH) {
        return Ok(Framing::UntilClose);
    }
    incoming.size_hint().exact().map(Framing::Length).ok_or(UpstreamError::TransferCoding)
}

/// A body with the connection that it arrives on. Dropping it closes the connection: there is one
/// connection a scrape, so that no leftover byte of one answer can reach the next.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    connection: Option<Connection>,
    /// hyper ends a connection whose sender is gone.
    _sender: http1::SendRequest<Empty<Bytes>>,
}

impl UpstreamBody {
    /// The next bytes; `None` after a complete message.
    ///
    /// # Errors
    /// The message is cut short or broken; nothing more follows.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            match self.poll_incoming(cx) {
                Poll::Pending => {}
                ready => return ready,
            }
            // The body has nothing: let the connection read and parse. It either puts a frame into
            // the body, ends the body, or waits for the socket.
            let Some(connection) = &mut self.connection else {
                return Poll::Pending;
            };
            match Pin::new(connection).poll(cx) {
                // Whatever ended it, the body knows.
                Poll::Ready(_) => self.connection = None,
                Poll::Pending => return self.poll_incoming(cx),
            }
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            return match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Poll::Ready(Some(Ok(data))),
                    // Trailers are not passed on.
                    Ok(_) | Err(_) => continue,
                },
                Some(Err(error)) => Poll::Ready(Some(Err(fault::in_body(&error)))),
                None => Poll::Ready(None),
            };
        }
    }

    /// Whether all bytes that the head promised have been given out.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }
}
