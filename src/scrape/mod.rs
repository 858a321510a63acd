//! One scrape: from the plan to the last byte on its way to the scraper.
//!
//! ```text
//!   exporter                                                                     scraper
//!      |                                                                            ^
//!      v                                                                            |
//!  UpstreamBody --> Verified --> Transformed --> Coalescer --> ScrapeBody --> hyper, TLS, socket
//!  chunks as they   max-body,    changes the     few large     batch by           |
//!  arrive           integrity    bytes (or no    batches       batch              |
//!                                link at all)                    |                |
//!  +------------------ Fetch -----------------+                  +--> Delivery <--+
//! ```
//!
//! Each link of the chain is a [`Source`](source::Source) for the next one, and no link ends before
//! its source has ended whole. Therefore an answer that was cut never looks complete.
//!
//! - [`plan`]: pure; what to ask the exporter, which transforms, which head to send. [`link`] is what
//!   it knows about the connection to the scraper.
//! - [`fetch`]: the connection to one exporter, and its permit. The body owns it.
//! - [`verified`]: the one place that knows when an answer is whole, with the rules in `integrity`.
//! - [`transform`]: links that change the bytes of a body.
//! - `coalesce`: gathers small chunks into batches.
//! - [`body`]: the body that hyper polls.
//! - [`delivery`]: what was sent and how the scrape ended; one log record, and one entry in the
//!   [`ledger`]. The connection owns it. [`outcome`], [`phase`] and [`encoding`] are its words.
//! - [`exporters`]: the exporters that scrapers can ask for, and what outlives a reload.
//! - [`exposition`]: checks metrics while they stream by, for `probe`.

pub mod body;
mod coalesce;
pub mod delivery;
pub mod encoding;
pub mod exporters;
pub mod exposition;
pub mod fetch;
mod integrity;
pub mod ledger;
pub mod link;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod source;
pub mod transform;
pub mod verified;

pub use self::{
    coalesce::{Batch, FIRST_BATCH, LARGEST_BATCH, SMALLEST_BATCH},
    integrity::is_openmetrics,
};
