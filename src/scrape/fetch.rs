//! The connection to an exporter, from the permit to the last byte of the body.

use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::http::response;

use super::{
    delivery::Delivery,
    exporters::ScrapePermit,
    plan::{AnswerPlan, Plan},
    source::Source,
    transform::Transformed,
    verified::Verified,
};
use crate::{
    common::{
        deadline::Deadline,
        error::{Abort, UpstreamError},
    },
    upstream::{self, Connector, Framing, UpstreamBody, UpstreamHead},
};

/// One scrape on the side of the exporter: the permit, and the connection with the body that
/// arrives on it. Dropping it closes the connection and returns the permit.
#[derive(Debug)]
pub struct Fetch {
    // The order of the fields is the order in which they are dropped: the exporter's connection is
    // closed before another scrape gets the permit.
    body: ChainEnd,
    permit: Option<ScrapePermit>,
}

/// The end of the chain. Without transforms no call is dynamic and no byte is copied.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost the usual scrape an allocation")]
enum ChainEnd {
    Unchanged(Verified<UpstreamBody>),
    Transformed(Box<Transformed<Verified<UpstreamBody>>>),
}

impl Fetch {
    /// Connects to the exporter, sends the request, and waits for the response head. Reports the
    /// phases to `delivery`. Everything must be complete by `deadline`.
    ///
    /// # Errors
    ///
    /// Every error that is answered with 502 or 504.
    pub async fn open(
        plan: Plan<'_>,
        connector: &Connector,
        permit: ScrapePermit,
        deadline: Deadline,
        delivery: &Delivery,
    ) -> Result<(UpstreamHead, response::Parts, Self), UpstreamError> {
        let exporter = plan.exporter;
        delivery.connecting();
        let stream = connector.connect(exporter, deadline).await?;
        delivery.connected();
        let (head, body) = upstream::exchange(stream, plan.request(), deadline).await?;
        let AnswerPlan { head: response, transforms, families_dropped } = plan.answer(&head)?;
        if let Some(dropped) = families_dropped {
            delivery.filters(dropped);
        }
        let body = Verified::new(body, &head, exporter);
        let body = if transforms.is_empty() || head.framing == Framing::Bodiless {
            ChainEnd::Unchanged(body)
        } else {
            ChainEnd::Transformed(Box::new(Transformed::new(body, transforms)))
        };
        Ok((head, response, Self { body, permit: Some(permit) }))
    }

    /// The length of the body in bytes, if it is known in advance.
    #[must_use]
    pub fn length(&self, head: &UpstreamHead) -> Option<u64> {
        match &self.body {
            ChainEnd::Unchanged(_) => head.framing.length(),
            ChainEnd::Transformed(_) => None,
        }
    }

    /// The number of bytes of the exporter's body that have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        match &self.body {
            ChainEnd::Unchanged(body) => body.received(),
            ChainEnd::Transformed(body) => body.source().received(),
        }
    }

    /// Returns the permit before the end of the scrape, because the exporter has delivered
    /// everything.
    ///
    /// This must not happen later. A scraper that has the last byte may send its next request on
    /// another connection, and the proxy may handle that request before this task continues.
    pub fn release_permit(&mut self) {
        self.permit = None;
    }
}

impl Source for Fetch {
    #[inline(always)]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        match &mut self.body {
            ChainEnd::Unchanged(body) => body.poll_chunk(cx),
            ChainEnd::Transformed(body) => body.poll_chunk(cx),
        }
    }

    #[inline(always)]
    fn is_end(&self) -> bool {
        match &self.body {
            ChainEnd::Unchanged(body) => body.is_end(),
            ChainEnd::Transformed(body) => body.is_end(),
        }
    }

    fn release(&mut self) {
        match &mut self.body {
            ChainEnd::Unchanged(body) => body.release(),
            ChainEnd::Transformed(body) => body.release(),
        }
    }

    #[inline(always)]
    fn read_up_to(&mut self, size: usize) {
        match &mut self.body {
            ChainEnd::Unchanged(body) => body.read_up_to(size),
            ChainEnd::Transformed(body) => body.read_up_to(size),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        io,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use hyper::Request;
    use tokio::{
        io::{AsyncRead, ReadBuf, join, sink},
        time::Instant,
    };

    use super::*;
    use crate::{
        scrape::{
            exporters::{ActiveExporter, fixture},
            link::Link,
            transform::TransformRules,
        },
        upstream::Stream,
    };

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ";

    /// An answer whose connection notes when it is closed whether the exporter has a free permit.
    #[derive(Debug)]
    struct Noting {
        left: &'static [u8],
        exporter: Arc<ActiveExporter>,
        was_free: Arc<AtomicBool>,
    }

    impl AsyncRead for Noting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.left).poll_read(cx, buf)
        }
    }

    impl Drop for Noting {
        fn drop(&mut self) {
            self.was_free.store(self.exporter.try_acquire().is_some(), Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_exporters_connection_is_closed_before_its_permit_is_free() {
        let exporter = Arc::new(ActiveExporter::from(fixture::exporter()));
        let was_free = Arc::new(AtomicBool::new(true));
        let (noted, noting) = (Arc::clone(&was_free), Arc::clone(&exporter));
        let connector = Connector::other(move |_| {
            let (exporter, was_free) = (Arc::clone(&noting), Arc::clone(&noted));
            let noting = Noting { left: ANSWER, exporter, was_free };
            Ok(Stream::other(join(noting, sink())))
        });
        let (scraper, ()) = Request::new(()).into_parts();
        let rules = TransformRules::default();
        let plan = Plan::new(&exporter.config, &scraper, "", &rules, Link::default());
        let deadline = Deadline::after(Instant::now(), exporter.config.rules.timeout);
        let permit = exporter.try_acquire().unwrap();
        let delivery = Delivery::default();
        let fetched = Fetch::open(plan, &connector, permit, deadline, &delivery).await;
        drop(fetched.unwrap());
        assert!(!was_free.load(Ordering::Relaxed), "the permit was free before the end");
        assert!(exporter.try_acquire().is_some());
    }
}
