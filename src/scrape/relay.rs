//! Relays a body from the exporter to the scraper, in batches and never whole.
//!
//! [`RelayBody`] owns everything that lives as long as the scrape. Therefore every way in which a
//! scrape can end releases everything, and counts the scrape exactly once.

mod coalesce;
mod headers;
mod integrity;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use self::coalesce::Coalescer;
pub use self::{
    coalesce::{BATCH, Batch},
    headers::response_head,
    integrity::{TailCheck, is_openmetrics},
};
use crate::{
    common::{error::Abort, exporter::Exporter},
    downstream::activity::Activity,
    scrape::{
        accounting::{Outcome, Scrape},
        ledger::Phase,
    },
    upstream::{Framing, UpstreamBody, UpstreamHead},
};

/// The body of a response: the proxy's own bytes, or a relayed exporter's body.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Fixed(Option<Bytes>),
    Relay(Box<RelayBody>),
}

impl ResponseBody {
    /// A body of the proxy itself, complete in memory.
    #[must_use]
    pub fn fixed(bytes: Bytes) -> Self {
        Self(Kind::Fixed((!bytes.is_empty()).then_some(bytes)))
    }

    /// The body of an exporter's answer.
    #[must_use]
    pub fn relay(body: RelayBody) -> Self {
        Self(Kind::Relay(Box::new(body)))
    }
}

impl Body for ResponseBody {
    type Data = Batch;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Batch>, Abort>>> {
        match &mut self.0 {
            Kind::Fixed(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes.into()))))
            }
            Kind::Relay(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Fixed(bytes) => bytes.is_none(),
            Kind::Relay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Fixed(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Relay(body) => body.size_hint(),
        }
    }
}

/// Relays an exporter's body to the scraper.
///
/// The body ends with `None` if and only if the exporter delivered a complete message that passes
/// the exporter's `integrity` rule. Any other end is an [`Abort`]. After an abort, hyper ends the
/// connection without a last chunk and without a TLS close_notify.
///
/// The body does not enforce the deadline of the scrape. hyper polls no body while the scraper does
/// not read, so the future that drives the connection enforces the deadline (see
/// [`crate::downstream::connection`]).
///
/// Dropping the body closes the connection to the exporter and releases the scrape's permit.
#[derive(Debug)]
pub struct RelayBody {
    upstream: UpstreamBody,
    coalescer: Coalescer,
    tail: TailCheck,
    /// Bytes of the body that are not relayed yet; `None` without `Content-Length`.
    unsent: Option<u64>,
    received: u64,
    max_body: Option<u64>,
    /// The exporter's message is complete and passed the integrity rule.
    complete: bool,
    /// The first batch, until it is relayed.
    primed: Option<Batch>,
    scrape: Option<Scrape>,
    activity: Arc<Activity>,
}

impl RelayBody {
    /// Takes over the connection to the exporter.
    #[must_use]
    pub fn new(
        head: &UpstreamHead,
        upstream: UpstreamBody,
        exporter: &Exporter,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            complete: matches!(head.framing, Framing::Bodiless),
            unsent: head.framing.length(),
            tail: TailCheck::new(exporter.rules.integrity, head),
            coalescer: Coalescer::default(),
            upstream,
            received: 0,
            max_body: exporter.rules.max_body,
            primed: None,
            scrape: None,
            activity,
        }
    }

    /// PhaseDurations for the first bytes of the body, or for the end of an empty body. The deadline is up
    /// to the caller.
    ///
    /// With the first bytes available, the response head and the first data share a TLS record, and
    /// an early error is still answered with a clean 502. This includes an error that is already
    /// known after the first bytes: some clients repeat a request if the connection is reset before
    /// the first byte of a response.
    ///
    /// Cancel safe: bytes that have arrived stay in the body.
    ///
    /// # Errors
    ///
    /// The abort with which the body ended before its first byte was relayed.
    pub async fn prime(&mut self) -> Result<(), Abort> {
        self.primed = poll_fn(|cx| self.poll_batch(cx)).await?;
        if !self.complete && self.coalescer.is_empty() {
            poll_fn(|cx| Poll::Ready(self.read_ahead(cx))).await?;
        }
        Ok(())
    }

    /// Takes over the accounting. From now on the body counts the end of `scrape`.
    pub fn account_to(&mut self, scrape: Scrape) {
        self.scrape = Some(scrape);
    }

    /// The next batch: all bytes that the exporter has sent so far, at most [`BATCH`].
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Abort>> {
        loop {
            if self.complete {
                return Poll::Ready(Ok(self.coalescer.rest()));
            }
            if let Some(batch) = self.coalescer.full() {
                return Poll::Ready(Ok(Some(batch)));
            }
            match self.upstream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.inspect(&data)?;
                    self.coalescer.push(data);
                }
                Poll::Ready(Some(Err(abort))) => return Poll::Ready(Err(abort)),
                Poll::Ready(None) => self.end_of_message()?,
                // The exporter has sent no more, so relay what is here. To wait for a fuller batch
                // is up to the kernel (`upstream::read_coalescing`).
                Poll::Pending => {
                    return match self.coalescer.rest() {
                        Some(batch) => Poll::Ready(Ok(Some(batch))),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Reads what has arrived after the first batch, at most one frame, without waiting.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Abort> {
        match self.upstream.poll_data(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(None) => self.end_of_message(),
            Poll::Ready(Some(data)) => {
                let data = data?;
                self.inspect(&data)?;
                self.coalescer.push(data);
                Ok(())
            }
        }
    }

    fn inspect(&mut self, data: &Bytes) -> Result<(), Abort> {
        self.received += data.len() as u64;
        if self.max_body.is_some_and(|most| self.received > most) {
            return Err(Abort::TooLarge);
        }
        self.tail.update(data);
        // With Content-Length the scraper finds the end by counting. The last bytes must therefore
        // be checked before they are relayed.
        if self.upstream.is_end() { self.end_of_message() } else { Ok(()) }
    }

    fn end_of_message(&mut self) -> Result<(), Abort> {
        self.tail.verdict().map_err(Abort::Integrity)?;
        self.complete = true;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch, Abort>>> {
        if let Some(batch) = self.primed.take() {
            return Poll::Ready(Some(Ok(batch)));
        }
        // The TLS buffer has bytes that the socket did not accept, so reading more would only use
        // memory. The flush of the connection is polled next and wakes this task.
        if self.activity.has_backlog() {
            self.upstream.release();
            self.coalescer.release();
            return Poll::Pending;
        }
        self.poll_batch(cx).map(Result::transpose)
    }
}

impl Body for RelayBody {
    type Data = Batch;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Batch>, Abort>>> {
        let this = &mut *self;
        if let Some(scrape) = &mut this.scrape {
            scrape.clock.resume();
        }
        let next = this.poll_next(cx);
        if let Some(scrape) = &mut this.scrape {
            let exporter_is_awaited = next.is_pending() && !this.activity.has_backlog();
            scrape.clock.wait_for(if exporter_is_awaited {
                Phase::ReadWait
            } else {
                Phase::WriteWait
            });
        }
        match ready!(next) {
            Some(Ok(data)) => {
                let length = data.remaining() as u64;
                this.unsent = this.unsent.map(|unsent| unsent.saturating_sub(length));
                if let Some(scrape) = &mut this.scrape {
                    scrape.add_bytes(length);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(abort)) => {
                this.activity.reset_on_close();
                if let Some(scrape) = this.scrape.take() {
                    scrape.finish(Outcome::Aborted(abort));
                }
                Poll::Ready(Some(Err(abort)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.complete && self.primed.is_none() && self.coalescer.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.unsent.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        if let Some(mut scrape) = self.scrape.take() {
            // If the body did not end, the scrape was aborted. The connection knows the cause.
            if self.is_end_stream() {
                scrape.exporter_is_done();
                // The scrape is complete only when the last byte is handed to the socket.
                self.activity.deliver(scrape);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_fixed_body_ends_with_its_only_frame() {
        let mut body = ResponseBody::fixed(Bytes::from_static(b"a\n"));
        assert_eq!((body.is_end_stream(), body.size_hint().exact()), (false, Some(2)));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().chunk(), b"a\n");
        assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(0)));
        assert!(ResponseBody::fixed(Bytes::new()).is_end_stream());
    }
}
