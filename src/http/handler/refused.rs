//! What a refused request counts as.

use std::error::Error as _;

use crate::{
    common::{
        error::{Chain, Refusal, Scope},
        exporter::ExporterName,
        peer::{ANY_PEER, Peer},
    },
    http::metrics::Metrics,
};

/// A refused request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    counts_as: CountsAs,
}

#[derive(Debug)]
enum CountsAs {
    /// A request that did not become a scrape.
    Request,
    /// A scrape of an exporter that does not exist.
    UnknownExporter(ExporterName),
    /// A scrape, which its [`Delivery`](crate::scrape::delivery::Delivery) has counted and logged.
    Scrape,
    /// The answer to a check of the service manager, which is as expected.
    Readiness,
}

impl From<Refusal> for Refused {
    /// A request that did not become a scrape.
    fn from(refusal: Refusal) -> Self {
        debug_assert_eq!(refusal.info().scope, Scope::Request, "{refusal}");
        Self { refusal, counts_as: CountsAs::Request }
    }
}

impl Refused {
    /// A scrape of an exporter that does not exist.
    pub(super) fn unknown(name: &ExporterName) -> Self {
        let counts_as = CountsAs::UnknownExporter(name.clone());
        Self { refusal: Refusal::UnknownExporter, counts_as }
    }

    /// A scrape that was counted and logged as such.
    pub(super) fn scrape(refusal: Refusal) -> Self {
        Self { refusal, counts_as: CountsAs::Scrape }
    }

    /// The answer to a readiness check. It is not an event.
    pub(super) fn readiness(refusal: Refusal) -> Self {
        Self { refusal, counts_as: CountsAs::Readiness }
    }

    /// Counts and logs the request, unless that was done or is not needed.
    pub(super) fn count(&self, metrics: &Metrics, peer: &Peer) {
        let Self { refusal, counts_as } = self;
        let name = match counts_as {
            CountsAs::Scrape | CountsAs::Readiness => return,
            CountsAs::Request => {
                metrics.rejected(refusal.info().label);
                None
            }
            CountsAs::UnknownExporter(name) => {
                metrics.unknown_exporter();
                Some(name)
            }
        };
        tracing::info!(
            target: ANY_PEER,
            exporter = name.map(|name| name.as_str().escape_debug().to_string()),
            reason = refusal.info().label,
            cause = refusal.source().map(|cause| Chain(cause).to_string()),
            hint = refusal.hint(),
            status = refusal.info().status.as_u16(),
            client = peer.client(),
            peer = %peer.address,
            "request refused"
        );
    }
}
