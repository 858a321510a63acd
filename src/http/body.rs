//! The body of a response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::{
    common::error::Abort,
    scrape::{Batch, body::ScrapeBody},
};

/// The body of a response: the proxy's own bytes, or a relayed exporter's body.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Fixed(Option<Bytes>),
    Scrape(Box<ScrapeBody>),
}

impl ResponseBody {
    /// A body of the proxy itself, complete in memory.
    #[must_use]
    pub fn fixed(bytes: Bytes) -> Self {
        Self(Kind::Fixed((!bytes.is_empty()).then_some(bytes)))
    }

    /// The body of an exporter's answer.
    #[must_use]
    pub fn scrape(body: ScrapeBody) -> Self {
        Self(Kind::Scrape(Box::new(body)))
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
            Kind::Scrape(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Fixed(bytes) => bytes.is_none(),
            Kind::Scrape(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Fixed(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Scrape(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::poll_fn;

    use bytes::Buf as _;

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
