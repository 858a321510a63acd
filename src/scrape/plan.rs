//! What a scrape does: what to ask the exporter, which transforms its answer passes through, and
//! which head the scraper gets. Pure.

use std::sync::{Arc, atomic::AtomicU64};

use hyper::{
    HeaderMap, Response,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
        LAST_MODIFIED, RETRY_AFTER, TRANSFER_ENCODING, VARY,
    },
    http::{request, response},
};

use super::{
    link::Link,
    transform::{
        Transform, TransformRules, Transforms,
        compression::{PlannedCompression, applies_to, mark},
        filter::{Filter, ask_for_text, format_of},
    },
};
use crate::{
    common::{error::UpstreamError, exporter::Exporter},
    upstream::{ExporterRequest, Framing, Replaced, UpstreamHead, content_length},
};

/// All headers that are relayed. `Content-Length` is missing on purpose: hyper writes it from the
/// size of the body, so that the two cannot disagree.
const PASSED_ON: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_ENCODING, LAST_MODIFIED, ETAG, VARY, RETRY_AFTER];

/// The plan of one scrape.
///
/// What the proxy does with an answer has three parts: what to ask the exporter ([`Plan::new`]),
/// whether its answer can be used, and which transforms it passes through ([`Plan::answer`]). Rules
/// that need only the exporter and the scraper belong in the first, all others in the second.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The exporter.
    pub exporter: &'a Exporter,
    scraper: &'a request::Parts,
    forwarded: &'a str,
    replaced: Replaced,
    transforms: &'a TransformRules,
    compression: Option<PlannedCompression>,
}

/// A filter, and the number of families that it has left out so far.
type Counted = (Box<dyn Transform>, Arc<AtomicU64>);

/// How to answer the scraper.
#[derive(Debug)]
pub struct AnswerPlan {
    /// The response head.
    pub head: response::Parts,
    /// The transforms of the body, in the order of the data flow.
    pub transforms: Transforms,
    /// The number of families that were left out so far, if the answer is filtered.
    pub families_dropped: Option<Arc<AtomicU64>>,
}

impl<'a> Plan<'a> {
    /// Plans the scrape of `exporter` that the request `scraper` asks for over `link`. `forwarded`
    /// is the part of its query that the exporter gets.
    #[must_use]
    pub fn new(
        exporter: &'a Exporter,
        scraper: &'a request::Parts,
        forwarded: &'a str,
        transforms: &'a TransformRules,
        link: Link,
    ) -> Self {
        let (rules, permits) = (&exporter.rules.compression, &transforms.compressions);
        let compression = PlannedCompression::of(rules, &scraper.headers, link, permits);
        let mut replaced = Replaced::default();
        if exporter.rules.families.is_some() {
            replaced = ask_for_text(&scraper.headers);
        } else if compression.is_some() {
            // The proxy's encoder costs the host less than the exporter's.
            replaced.accept_encoding = Some(HeaderValue::from_static("identity"));
        }
        Self { exporter, scraper, forwarded, replaced, transforms, compression }
    }

    /// What to ask the exporter.
    #[must_use]
    pub fn request(&self) -> ExporterRequest<'_> {
        let &Self { exporter, scraper, forwarded, ref replaced, .. } = self;
        ExporterRequest { exporter, scraper, forwarded, replaced }
    }

    /// How to answer with the body that follows `head`.
    ///
    /// # Errors
    ///
    /// The exporter's answer cannot be passed on.
    pub fn answer(self, head: &UpstreamHead) -> Result<AnswerPlan, UpstreamError> {
        let (filter, families_dropped) = self.filter(head)?.unzip();
        let mut transforms = self.transforms.added(head).after(filter);
        let mut response = response_head(head, &transforms);
        if let Some(compression) = self.compression.filter(|_| applies_to(head)) {
            mark(&mut response.headers, compression.coding());
            if head.framing != Framing::Bodiless {
                transforms.push(Box::new(compression.start()));
            }
        }
        Ok(AnswerPlan { head: response, transforms, families_dropped })
    }

    /// The filter of `metrics-drop` and `metrics-keep`, and its count. It is the first transform, so
    /// that no other one works on what is left out.
    fn filter(&self, head: &UpstreamHead) -> Result<Option<Counted>, UpstreamError> {
        let Some(rules) = &self.exporter.rules.families else { return Ok(None) };
        Ok(format_of(head)?.map(|format| {
            let dropped = Arc::<AtomicU64>::default();
            let filter = Filter::new(rules.clone(), format, Arc::clone(&dropped));
            (Box::new(filter) as Box<dyn Transform>, dropped)
        }))
    }
}

/// The response head for the scraper: the exporter's status, and those of its headers that are
/// relayed.
#[must_use]
pub fn response_head(head: &UpstreamHead, transforms: &Transforms) -> response::Parts {
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = head.status;
    copy(&head.headers, &mut response.headers);
    if !transforms.is_empty() {
        // The tag names the exporter's bytes (RFC 9110 §8.8.3).
        response.headers.remove(ETAG);
    } else if head.framing == Framing::Bodiless {
        if let Some(length) = announced_length(&head.headers) {
            // The response has no body from whose size hyper could write the header.
            response.headers.insert(CONTENT_LENGTH, length);
        }
    }
    response
}

/// The length that a response to `HEAD` announces for `GET`, if it is a single number and no other
/// framing is announced.
fn announced_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let length = content_length(headers).ok()??;
    (!headers.contains_key(TRANSFER_ENCODING)).then(|| length.into())
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in PASSED_ON {
        for value in from.get_all(&name) {
            to.append(&name, value.clone());
        }
    }
}
