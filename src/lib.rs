//! A streaming mutual-TLS proxy in front of Prometheus exporters.
//!
//! One encrypted, authenticated port in front of every exporter of a host. A scraper asks
//! `https://HOST:3333/prometheus?exporter=node_exporter`; the exporter's answer, however large,
//! streams through chunk by chunk. Nothing is polled, cached or changed on the way.
//!
//! # The way of a scrape
//!
//! ```text
//!             scraper                                                  exporter
//!                |  TCP                                                    ^
//!  accept ---> tls ---> connection ---> handler ------------------->  upstream
//!  permit,     mTLS,    hyper http1,    1 route(request)                   |
//!  back-off    evicted  every clock     2 exporters.get(name)              v  head + body
//!              if too   of the stream   3 deadline = min(timeout, header - offset)
//!              many        ^            4 upstream: connect, then exchange   
//!                          +----------- 5 relay: filtered head, RelayBody, batch by batch
//! ```
//!
//! An error before the head is a [`error::Refusal`] and becomes a one-line response; the one place
//! that chooses its status is [`error::Refusal::verdict`]. An error after the head is an
//! [`error::Abort`]: [`relay::RelayBody`] yields it, the connection dies without a last chunk and
//! without close_notify, and no HTTP client takes what it has for a whole scrape.
//!
//! The exporter's connection is polled inside the body, in the scraper's own task. The scrape's
//! deadline is kept by [`connection::drive`], which is polled also while the scraper does not read.
//!
//! # Modules, in the order of the data flow
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | arguments, one module a subcommand, exit codes |
//! | [`server`] | the composition root: bind, run until shut down; alone knows all others |
//! | [`accept`] | permit → accept → classify the error → back off → spawn |
//! | [`tls`] | configurations, who is trusted on either side ([`tls::verify`]), handshakes in turns under a deadline |
//! | [`connection`] | drives hyper over one stream: head, idle, stall and scrape clocks, drain |
//! | [`activity`] | what a connection is doing: its phase and clocks, shared by all above it |
//! | [`handler`] | one request, the five steps |
//! | [`route`] | pure: request head → [`route::Route`] or [`error::Refusal`] |
//! | [`access`] | allow-list of clients, HTTP Basic |
//! | [`enrol`] | this host's key, its signing request, the certificate that comes back |
//! | [`upstream`] | connect (TCP, Unix, TLS), send, await the head, read the body |
//! | [`relay`] | [`relay::RelayBody`]: coalescing, integrity, header filter |
//! | [`scrape`], [`peer`] | the accounting of one scrape; who is at the other end |
//! | [`ledger`], [`metrics`] | what the scrapes of an exporter came to; the process, and `/metrics` |
//! | [`page`] | the status page |
//! | [`exporter`], [`deadline`] | domain types |
//! | [`discovery`] | pure: exporters → what Prometheus' service discovery is told |
//! | [`exposition`] | pure: what an answer is made of, found out while it streams by, for `probe` |
//! | [`error`], [`respond`] | causes with blame, the one status, synthetic responses |
//! | [`config`] | INI text → raw values with their line → typed; all mistakes at once |
//! | [`assets`], [`mod@file`] | every file the configuration names, read and checked |
//! | [`pem`] | a PEM file → its blocks, each of them used or reported |
//! | [`pki`] | certificates for `certs`, `demo` and `probe` |
//! | [`reload`], [`trigger`] | the files read again, when asked or when they changed; who asks |
//! | [`systemd`] | what the service manager is told, and the socket that it passes on |
//! | [`workers`] | a single-threaded runtime a core; each connection stays on one |
//! | [`blocking`] | work that blocks its thread, such as reading a file: on a thread of its own |
//! | [`answers`] | a bound for the proxy's own pages that nobody reads |
//! | [`fair`] | a semaphore whose permits go round by address |
//! | [`shutdown`], [`telemetry`] | stages and signals; logs |
//!
//! Imports point one way: `cli → server → {accept, tls, connection, handler} → {route, upstream,
//! relay} → {exporter, deadline, error}`; `config` knows the domain types, never the other way
//! round. A test (`tests/layers.rs`) holds this.
//!
//! # What it is not
//!
//! No merging of exporters, no polling, no cache, no relabelling, no retries after the first byte,
//! no running of scripts.

pub mod accept;
pub mod access;
pub mod activity;
pub mod answers;
pub mod assets;
pub mod blocking;
pub mod cli;
pub mod config;
pub mod connection;
pub mod deadline;
pub mod discovery;
pub mod enrol;
pub mod error;
pub mod exporter;
pub mod exposition;
pub mod fair;
pub mod file;
pub mod handler;
pub mod ledger;
pub mod metrics;
pub mod page;
pub mod peer;
pub mod pem;
pub mod pki;
pub mod relay;
pub mod reload;
pub mod respond;
pub mod route;
pub mod scrape;
pub mod server;
pub mod shutdown;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod trigger;
pub mod upstream;
pub mod workers;
