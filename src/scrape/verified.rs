//! When an answer is whole. The proxy and `probe` share this rule.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{integrity::TailCheck, source::Source};
use crate::{
    common::{
        error::Abort,
        exporter::{Exporter, ScrapeRules},
    },
    upstream::{Framing, UpstreamHead},
};

/// A body that is checked by the exporter's rules while it passes.
///
/// The body ends with `None` if and only if the exporter delivered a complete message that is not
/// larger than `max-body` and passes the `integrity` rule.
#[derive(Debug)]
pub struct Verified<S> {
    source: S,
    tail: TailCheck,
    received: u64,
    max_body: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The message is complete and passed the checks.
    Whole,
    /// The message will never be complete.
    Failed(Abort),
}

impl<S: Source> Verified<S> {
    /// Checks the body that follows `head` by the rules of `exporter`.
    #[must_use]
    pub fn new(source: S, head: &UpstreamHead, exporter: &Exporter) -> Self {
        let ScrapeRules { integrity, max_body, .. } = exporter.rules;
        let state = match head.framing {
            Framing::Bodiless => State::Whole,
            Framing::Chunked | Framing::Length(_) | Framing::UntilClose => State::Open,
        };
        Self { source, tail: TailCheck::new(integrity, head), received: 0, max_body, state }
    }

    /// The number of bytes received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    #[inline(always)]
    fn check(&mut self, data: &Bytes) -> Result<(), Abort> {
        self.received += data.len() as u64;
        if self.max_body.is_some_and(|most| self.received > most) {
            return Err(Abort::TooLarge);
        }
        self.tail.update(data);
        // With Content-Length the scraper finds the end by counting. The last bytes must therefore
        // be checked before they are relayed.
        if self.source.is_end() { self.check_end() } else { Ok(()) }
    }

    fn check_end(&mut self) -> Result<(), Abort> {
        self.tail.verdict().map_err(Abort::Integrity)?;
        self.state = State::Whole;
        Ok(())
    }
}

impl<S: Source> Source for Verified<S> {
    // Always inlined, as in the other links of the chain: each call would move the chunk through
    // memory once more, which costs 1 % of the instructions of small chunks (`benches/gates`).
    #[inline(always)]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        match self.state {
            State::Open => {}
            State::Whole => return Poll::Ready(None),
            State::Failed(abort) => return Poll::Ready(Some(Err(abort))),
        }
        let next = ready!(self.source.poll_chunk(cx));
        let checked = match &next {
            Some(Ok(data)) => self.check(data),
            Some(Err(abort)) => Err(*abort),
            None => self.check_end(),
        };
        match checked {
            Ok(()) => Poll::Ready(next),
            Err(abort) => {
                self.state = State::Failed(abort);
                Poll::Ready(Some(Err(abort)))
            }
        }
    }

    fn is_end(&self) -> bool {
        self.state == State::Whole
    }

    fn release(&mut self) {
        self.source.release();
    }

    #[inline(always)]
    fn read_up_to(&mut self, size: usize) {
        self.source.read_up_to(size);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::{HeaderMap, StatusCode, header::CONTENT_TYPE};

    use super::*;
    use crate::{
        common::error::IntegrityFault,
        scrape::{
            exporters::fixture,
            source::scripted::{Scripted, Step, poll},
        },
    };

    const NO_MARKER: Abort = Abort::Integrity(IntegrityFault::NoEofMarker);

    fn exporter(max_body: Option<u64>) -> Exporter {
        let mut exporter = fixture::exporter();
        exporter.rules.max_body = max_body;
        exporter
    }

    /// A body of OpenMetrics, whose last line must be `# EOF`.
    fn openmetrics(
        source: Scripted,
        framing: Framing,
        max_body: Option<u64>,
    ) -> Verified<Scripted> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/openmetrics-text".parse().unwrap());
        let head = UpstreamHead { status: StatusCode::OK, headers, framing, length_ignored: false };
        Verified::new(source, &head, &exporter(max_body))
    }

    fn bytes(text: &'static str) -> Poll<Option<Result<Bytes, Abort>>> {
        Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))))
    }

    #[test]
    fn with_content_length_the_last_bytes_are_checked_before_they_leave() {
        let whole = [Step::Bytes("a 1\n"), Step::Bytes("# EOF\n")];
        let mut body =
            openmetrics(Scripted::new(whole).with_known_end(), Framing::Length(10), None);
        assert_eq!(poll(&mut body), bytes("a 1\n"));
        assert!(!body.is_end());
        assert_eq!(poll(&mut body), bytes("# EOF\n"));
        assert!(body.is_end());
        // The script is over: another poll of the source would panic.
        assert_eq!(poll(&mut body), Poll::Ready(None));
        assert_eq!(body.received(), 10);

        let partial = [Step::Bytes("a 1\n"), Step::Bytes("b 1\n")];
        let mut body =
            openmetrics(Scripted::new(partial).with_known_end(), Framing::Length(8), None);
        assert_eq!(poll(&mut body), bytes("a 1\n"));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(NO_MARKER))));
        assert!(!body.is_end());
    }

    #[test]
    fn without_a_known_end_the_body_is_checked_before_it_ends() {
        for framing in [Framing::Chunked, Framing::UntilClose] {
            let mut whole = openmetrics(
                Scripted::new([Step::Bytes("# EOF\n"), Step::Pause, Step::End]),
                framing,
                None,
            );
            assert_eq!(poll(&mut whole), bytes("# EOF\n"));
            assert_eq!(poll(&mut whole), Poll::Pending);
            assert!(!whole.is_end(), "before the end of the source");
            assert_eq!(poll(&mut whole), Poll::Ready(None));
            assert!(whole.is_end());

            let source = Scripted::new([Step::Bytes("a 1\n"), Step::End]);
            let mut partial = openmetrics(source, framing, None);
            assert_eq!(poll(&mut partial), bytes("a 1\n"));
            assert_eq!(poll(&mut partial), Poll::Ready(Some(Err(NO_MARKER))));
            assert!(!partial.is_end());
        }
    }

    #[test]
    fn an_error_is_final() {
        // In each case the script is over after the error: another poll of the source would panic.
        let fault = Abort::ExporterReset;
        let of_source = openmetrics(Scripted::new([Step::Fault(fault)]), Framing::Chunked, None);
        let of_check = openmetrics(Scripted::new([Step::End]), Framing::Chunked, None);
        let too_large =
            openmetrics(Scripted::new([Step::Bytes("a 1\n")]), Framing::Chunked, Some(3));
        for (mut body, abort) in
            [(of_source, fault), (of_check, NO_MARKER), (too_large, Abort::TooLarge)]
        {
            for _ in 0..3 {
                assert_eq!(poll(&mut body), Poll::Ready(Some(Err(abort))));
                assert!(!body.is_end(), "{abort}");
            }
        }
    }

    #[test]
    fn a_body_may_have_max_body_bytes_and_not_one_more() {
        let steps = [Step::Bytes("a 1\n"), Step::Bytes("# EOF\n"), Step::End];
        let mut body = openmetrics(Scripted::new(steps), Framing::Chunked, Some(10));
        assert_eq!(poll(&mut body), bytes("a 1\n"));
        assert_eq!(poll(&mut body), bytes("# EOF\n"));
        assert_eq!(poll(&mut body), Poll::Ready(None));

        let steps = [Step::Bytes("a 1\n"), Step::Bytes("# EOF\n")];
        let mut body = openmetrics(Scripted::new(steps), Framing::Chunked, Some(9));
        assert_eq!(poll(&mut body), bytes("a 1\n"));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(Abort::TooLarge))));
    }

    #[test]
    fn a_response_without_a_body_is_complete_at_once() {
        let mut body = openmetrics(Scripted::new([]), Framing::Bodiless, None);
        assert!(body.is_end());
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }
}
