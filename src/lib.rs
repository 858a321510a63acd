//! A streaming mutual-TLS proxy in front of Prometheus exporters.
//!
//! scrapegate puts one encrypted and authenticated port in front of all exporters of a host. A
//! scraper requests `https://HOST:3333/prometheus?exporter=node_exporter`. The exporter's answer,
//! however large, streams through chunk by chunk. scrapegate does not poll or cache it.
//!
//! # The rooms, in the order of the data flow
//!
//! The crate has nine rooms. A room imports only rooms below it (`tests/layers.rs`).
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | arguments, one module for each subcommand, exit codes |
//! | [`service`] | the process: binds, runs until the shutdown, reloads; logs; the service manager |
//! | [`downstream`] | the scraper's side: accepts connections, TLS handshakes, drives hyper on one stream and enforces all timeouts |
//! | [`mod@http`] | one request: its route, its authorization and the response; the proxy's own pages |
//! | [`scrape`] | one scrape: the body on its way to the scraper, the integrity rule, the accounting |
//! | [`upstream`] | the exporter's side: connects (TCP, Unix socket, TLS), sends the request, reads the head and the body |
//! | [`tls`] | certificates: PEM files, trust in both directions, TLS configurations, new certificates |
//! | [`config`] | INI text → raw values with their lines → typed values; reports all errors at once |
//! | [`common`] | what all rooms share: domain types, all errors, and small tools |
//!
//! # One scrape, from accept to the last byte
//!
//! ```text
//!   scraper                                                                       exporter
//!      |  ^                                                                         ^  |
//!      v  |                                                                         |  |
//!   +--downstream---------+    +--http------+    +--scrape---------+    +--upstream-|--v----+
//!   | 1 accept            |    |            |    | 5 Plan          |    |                    |
//!   | 2 handshake         |    | 4 handler: |    | 6 Fetch::open ------>| connect, exchange  |
//!   | 3 connection: ---------->|   route,   |--->|                 |    |                    |
//!   |   hyper, all timers |    |   access   |    | 7 Verified <---------| UpstreamBody       |
//!   |                     |    +------------+    |   Transformed   |    |                    |
//!   |   socket <---- TLS <----------------------- 8 ScrapeBody     |    +--------------------+
//!   | 9 flushed ---------------- complete ------>  Delivery        |
//!   +---------------------+                      +--> ledger, log--+
//! ```
//!
//! 1. [`accept_loop`](downstream::accept::accept_loop) takes a connection permit, accepts the
//!    connection and counts it for its address. The [server](service::server) passes it to one of the
//!    [workers](service::workers), which runs its [session](downstream::session::Session).
//! 2. [`handshake`](downstream::handshake::handshake) authenticates the client within
//!    `handshake-timeout`. If too many handshakes are unfinished,
//!    [`Admission`](downstream::accept::Admission) evicts the oldest of the address with the most.
//! 3. [`drive`](downstream::connection::drive) runs hyper on the stream. It enforces every timeout
//!    of the stream, and later the deadline of the scrape.
//! 4. [`handle`](http::handler::handle) answers one request. [`route`](http::route::route) reads the
//!    target, [`Access`](http::access::Access) checks the client, and the deadline is set:
//!    [`Deadline::of_scrape`](common::deadline::Deadline::of_scrape).
//! 5. The handler begins the [`Delivery`](scrape::delivery::Delivery) of the connection, takes a
//!    permit of the exporter (`max-concurrent`), and makes a [`Plan`](scrape::plan::Plan): what to
//!    ask the exporter, and how to answer.
//! 6. [`Fetch::open`](scrape::fetch::Fetch::open) connects to the exporter within
//!    `connect-timeout`, sends the request, and reads and checks the response head.
//! 7. The body passes [`Verified`](scrape::verified::Verified), which knows when it is whole, and
//!    transforms, if there are any. [`ScrapeBody::prime`](scrape::body::ScrapeBody::prime) waits for
//!    its first bytes. An error up to this point is a [`Refusal`](common::error::Refusal) and
//!    becomes a one-line response. Its status is in one row of
//!    [`Refusal::info`](common::error::Refusal::info).
//! 8. hyper polls [`ScrapeBody`](scrape::body::ScrapeBody), batch by batch. The exporter's
//!    connection is polled inside the body, in the scraper's own task.
//! 9. The last byte reaches the scraper's socket:
//!    [`ConnectionState::flushed`](downstream::state::ConnectionState::flushed) completes the
//!    [`Delivery`](scrape::delivery::Delivery), which writes one log record and one entry in the
//!    exporter's [`Ledger`](scrape::ledger::Ledger).
//!
//! An error after the response head is an [`Abort`](common::error::Abort): the body yields it, and
//! the connection ends without a last chunk and without close_notify. No HTTP client can then
//! mistake the partial answer for a complete scrape.
//!
//! While the scraper does not read, hyper may not poll the body again. Therefore
//! [`drive`](downstream::connection::drive) enforces the deadline: it is always polled.
//!
//! # Who owns what
//!
//! - The body owns the [`Fetch`](scrape::fetch::Fetch): the exporter's connection and its permit.
//!   Dropping the body closes the one and returns the other.
//! - The connection owns the [`Delivery`](scrape::delivery::Delivery): what was sent, and how the
//!   scrape ended. The handler and the body report to it. If the connection ends first, it ends the
//!   scrape and knows why.
//! - A reload replaces [`Exporter`](common::exporter::Exporter) values and keeps each
//!   [`ExporterState`](scrape::exporters::ExporterState).
//!
//! # What scrapegate does not do
//!
//! It does not merge exporters, poll, cache, relabel, retry after the first byte, or run scripts.

pub mod cli;
pub mod common;
pub mod config;
pub mod downstream;
pub mod http;
pub mod scrape;
pub mod service;
pub mod tls;
pub mod upstream;
