//! Shared parts of benchmarks and gates: both ends of the proxy, in memory or on loopback.
//!
//! ```text
//! memory::Scraper      ──plain HTTP──▶  server::serve_stream  ──Connector──▶  memory::Exporter
//! tls::Scraper         ──TLS 1.3─────▶  the same
//! loopback::Scraper    ──TLS 1.3─────▶  server::Server, on sockets  ───────▶  loopback::Exporter
//! ```
//!
//! The ends in memory run inside the proxy's own calls, and send and accept everything at once.
//! There is one task and nothing waits, so the counts are reproducible.
#![allow(dead_code, reason = "each bench target uses only a part of this module")]

pub(crate) mod inputs;
pub(crate) mod loopback;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod scrape;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod scripted;
pub(crate) mod tls;
