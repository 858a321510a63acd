//! What benchmarks and gates share: both ends of the proxy, in memory or on loopback.
//!
//! ```text
//! memory::Scraper      ──plain HTTP──▶  server::serve_stream  ──Connector──▶  memory::Exporter
//! tls::Scraper         ──TLS 1.3─────▶  the same
//! loopback::Scraper    ──TLS 1.3─────▶  server::Server, on sockets  ───────▶  loopback::Exporter
//! ```
//!
//! The ends in memory run inside the proxy's own calls and take and give everything at once. So
//! there is one task, nothing waits, and what is counted is the same each time.
#![allow(dead_code, reason = "each bench target uses its own part of what they share")]

pub(crate) mod inputs;
pub(crate) mod loopback;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod scrape;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod scripted;
pub(crate) mod tls;
