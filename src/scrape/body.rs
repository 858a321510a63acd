//! The body that hyper polls: batches of what has arrived from the exporter, never the whole body.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    coalesce::{Batch, Coalescer},
    delivery::DeliveryControl,
    fetch::Fetch,
    phase::Phase,
    source::Source,
};
use crate::{common::error::Abort, upstream::UpstreamHead};

/// Relays an exporter's body to the scraper.
///
/// The body ends with `None` if and only if its source does, which is the end of a complete message
/// (see [`Verified`](super::verified::Verified)). Any other end is an [`Abort`]. After an abort,
/// hyper ends the connection without a last chunk and without a TLS close_notify.
///
/// The body does not enforce the deadline of the scrape. While the scraper does not read, hyper may
/// not poll the body again, so the future that drives the connection enforces the deadline (see
/// [`crate::downstream::connection`]).
///
/// Dropping the body closes the connection to the exporter and returns the permit of the scrape.
#[derive(Debug)]
pub struct ScrapeBody {
    fetch: Fetch,
    coalescer: Coalescer,
    /// Bytes of the body that are not relayed yet; `None` if the length is not known.
    unsent: Option<u64>,
    /// The first batch, until it is relayed.
    primed: Option<Batch>,
    control: Arc<dyn DeliveryControl>,
}

impl ScrapeBody {
    /// Relays the body that `fetch` receives, and reports to the connection.
    #[must_use]
    pub fn new(fetch: Fetch, head: &UpstreamHead, control: Arc<dyn DeliveryControl>) -> Self {
        let (unsent, coalescer) = (fetch.length(head), Coalescer::default());
        Self { fetch, coalescer, unsent, primed: None, control }
    }

    /// Waits for the first bytes of the body, or for the end of an empty body. The deadline is up
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
        self.primed = poll_fn(|cx| {
            let batch = self.poll_batch(cx);
            // A transform can take many bytes before it has something to pass on.
            self.control.delivery().received(self.fetch.received());
            batch
        })
        .await?;
        if self.coalescer.is_empty() {
            // What has arrived after the first batch, without waiting.
            match poll_fn(|cx| Poll::Ready(self.fetch.poll_chunk(cx))).await {
                Poll::Pending | Poll::Ready(None) => {}
                Poll::Ready(Some(chunk)) => self.coalescer.push(chunk?),
            }
        }
        Ok(())
    }

    /// The next batch: all bytes that the exporter has sent so far, at most as many as the socket
    /// has room for.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Abort>> {
        loop {
            if self.fetch.is_end() {
                return Poll::Ready(Ok(self.coalescer.rest()));
            }
            if let Some(batch) = self.coalescer.full() {
                return Poll::Ready(Ok(Some(batch)));
            }
            self.fetch.read_up_to(self.coalescer.space());
            match self.fetch.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.coalescer.push(chunk),
                Poll::Ready(Some(Err(abort))) => return Poll::Ready(Err(abort)),
                // The source is at its end.
                Poll::Ready(None) => {}
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

    /// The next batch, and the phase in which the scrape waits afterwards.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> (Poll<Option<Result<Batch, Abort>>>, Phase) {
        if let Some(batch) = self.primed.take() {
            return (Poll::Ready(Some(Ok(batch))), Phase::WriteWait);
        }
        // The TLS buffer has bytes that the socket did not accept, so reading more would only use
        // memory. What is not needed until the scraper reads again is freed. The flush of the
        // connection is polled next and wakes this task.
        let Some(room) = self.control.room() else {
            self.fetch.release();
            self.coalescer.release();
            return (Poll::Pending, Phase::WriteWait);
        };
        self.coalescer.fit(room);
        let next = self.poll_batch(cx).map(Result::transpose);
        let phase = if next.is_pending() { Phase::ReadWait } else { Phase::WriteWait };
        (next, phase)
    }
}

impl Body for ScrapeBody {
    type Data = Batch;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Batch>, Abort>>> {
        let this = &mut *self;
        this.control.delivery().resume();
        let (next, phase) = this.poll_next(cx);
        let bytes = match &next {
            Poll::Ready(Some(Ok(batch))) => batch.remaining() as u64,
            Poll::Ready(_) | Poll::Pending => 0,
        };
        this.unsent = this.unsent.map(|unsent| unsent.saturating_sub(bytes));
        this.control.delivery().wait_for(phase, bytes, this.fetch.received());
        let next = ready!(next);
        if let Some(Err(abort)) = &next {
            this.control.reset_on_close();
            // A reader of the record can rely on the permit.
            this.fetch.release_permit();
            this.control.delivery().abort(*abort);
        }
        Poll::Ready(next.map(|batch| batch.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.fetch.is_end() && self.primed.is_none() && self.coalescer.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.unsent.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ScrapeBody {
    fn drop(&mut self) {
        // If the body did not end, the scrape is cut off with its connection, which knows the cause.
        if self.is_end_stream() {
            self.fetch.release_permit();
            // The scrape is complete only when the last byte is handed to the socket.
            self.control.delivery().whole();
        }
    }
}
