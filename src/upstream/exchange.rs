//! Sends the request to an exporter, and reads and checks the response head.

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, HeaderMap},
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use super::{
    body::UpstreamBody,
    connect::{Connector, Stream},
    fault,
    framing::{Framing, framing},
    head::{self, Head},
    request::ExporterRequest,
};
use crate::common::{deadline::Deadline, error::UpstreamError, exporter::Exporter};

/// The checked response head of an exporter, whose body can be relayed.
#[derive(Debug)]
pub struct UpstreamHead {
    /// The status: 200, another 2xx, or the exporter's own 4xx or 5xx.
    pub status: StatusCode,
    /// All headers of the exporter. [`crate::scrape::plan::response_head`] selects those that are relayed.
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
    request: ExporterRequest<'_>,
    deadline: Deadline,
) -> Result<(UpstreamHead, UpstreamBody), UpstreamError> {
    let stream = connector.connect(request.exporter, deadline).await?;
    exchange(stream, request, deadline).await
}

/// Sends the scraper's request over an established connection, and reads the response head.
///
/// # Errors
///
/// The errors of [`fetch`], except those of connecting.
pub async fn exchange(
    mut stream: Stream,
    request: ExporterRequest<'_>,
    deadline: Deadline,
) -> Result<(UpstreamHead, UpstreamBody), UpstreamError> {
    let ExporterRequest { exporter, scraper, .. } = request;
    let bytes = request.bytes(deadline.remaining(Instant::now()));
    let (head, unread) = timeout_at(deadline.instant(), ask(&mut stream, &bytes))
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
