//! A streaming mutual-TLS proxy in front of Prometheus exporters.
//!
//! scrapegate puts one encrypted and authenticated port in front of all exporters of a host. A
//! scraper requests `https://HOST:3333/prometheus?exporter=node_exporter`. The exporter's answer,
//! however large, streams through chunk by chunk. scrapegate does not poll, cache or change it.
//!
//! # One scrape, from accept to the last byte
//!
//! ```text
//!             scraper                                                  exporter
//!                |  TCP                                                    ^
//!  accept ---> tls ---> connection ---> handler ------------------->  upstream
//!  permit,     mTLS,    hyper http1,    1 route(request)                   |
//!  back-off    bounded  all timeouts    2 check the client                 v  head + body
//!              number   of the stream   3 exporters.get(name)
//!                          ^            4 upstream: connect, then exchange
//!                          +----------- 5 relay: response head, then RelayBody, batch by batch
//! ```
//!
//! 1. [`accept::accept_loop`] takes a connection permit, accepts the connection and counts it for
//!    its address. [`server`] passes the connection to one of the [`workers`].
//! 2. [`tls::handshake`] authenticates the client within `handshake-timeout`. If too many
//!    handshakes are unfinished, [`accept::Admission`] evicts the oldest of the address with the
//!    most.
//! 3. [`connection::drive`] runs hyper on the stream. It enforces every timeout of the stream, and
//!    later the deadline of the scrape.
//! 4. [`handler::handle`] answers one request. [`route::route`] reads the target, [`access`] checks
//!    the client, and the deadline is set: [`deadline::Deadline::of_scrape`].
//! 5. The handler takes a permit of the exporter (`max-concurrent`), and
//!    [`scrape::Scrape::begin`] starts the accounting.
//! 6. [`upstream::Connector::connect`] connects to the exporter within `connect-timeout`.
//!    [`upstream::exchange`] sends the request, reads the response head and checks it.
//! 7. [`relay::RelayBody::prime`] waits for the first bytes of the body. An error up to this point
//!    is a [`error::Refusal`] and becomes a one-line response. Its status is chosen in one place,
//!    [`error::Refusal::verdict`].
//! 8. [`relay::response_head`] selects the headers to relay, and hyper polls [`relay::RelayBody`].
//!    The exporter's connection is polled inside the body, in the scraper's own task.
//! 9. The last byte reaches the scraper's socket: [`activity::Activity::flushed`] finishes the
//!    [`scrape::Scrape`], which writes one log record and one entry in the exporter's
//!    [`ledger::Ledger`].
//!
//! An error after the response head is an [`error::Abort`]: [`relay::RelayBody`] yields it, and the
//! connection ends without a last chunk and without close_notify. No HTTP client can then mistake
//! the partial answer for a complete scrape.
//!
//! hyper does not poll a body while the scraper does not read. Therefore [`connection::drive`]
//! enforces the deadline: it is always polled.
//!
//! # Modules, in the order of the data flow
//!
//! | module | responsibility |
//! |---|---|
//! | [`cli`] | arguments, one module for each subcommand, exit codes |
//! | [`server`] | the composition root: bind, run until the shutdown; the only module that knows all others |
//! | [`accept`] | permit → accept → classify the error → back off → start the connection |
//! | [`tls`] | TLS configurations, trust in both directions ([`tls::verify`]), handshakes with a deadline and a fair share of the CPU |
//! | [`connection`] | drives hyper on one stream: timeouts, deadline, drain |
//! | [`activity`] | the state of a connection: its phase and its timers, shared within its task |
//! | [`handler`] | answers one request |
//! | [`route`] | pure: request head → [`route::Route`] or [`error::Refusal`] |
//! | [`access`] | the allow-list of clients, HTTP Basic authentication |
//! | [`enrol`] | enrollment: this host's key, its signing request, the certificate that the server returns |
//! | [`upstream`] | connects to the exporter (TCP, Unix socket, TLS), sends the request, reads the head and the body |
//! | [`relay`] | [`relay::RelayBody`]: batches, integrity check, header filter |
//! | [`scrape`], [`peer`] | the accounting of one scrape; the identity of the client |
//! | [`ledger`], [`metrics`] | the results of an exporter's scrapes; the counts of the process, and `/metrics` |
//! | [`page`] | the status page |
//! | [`exporter`], [`deadline`] | domain types |
//! | [`discovery`] | pure: exporters → targets for Prometheus' service discovery |
//! | [`exposition`] | pure: checks the metrics in an answer while it streams by, for `probe` |
//! | [`error`], [`respond`] | all errors, who is to blame for each, and its status; the proxy's own responses |
//! | [`config`] | INI text → raw values with their lines → typed values; reports all errors at once |
//! | [`assets`], [`mod@file`] | reads and checks every file that the configuration names |
//! | [`pem`] | PEM file → blocks, each of them used or reported |
//! | [`pki`] | creates certificates for `certs`, `demo` and `probe` |
//! | [`reload`], [`trigger`] | reads the files again, on request or when they change; who requests it |
//! | [`systemd`] | notifications to the service manager, and the socket that it passes |
//! | [`workers`] | one single-threaded runtime for each core; a connection stays on its worker |
//! | [`blocking`] | runs blocking work, such as reading a file, on threads of its own |
//! | [`answers`] | bounds the memory of the proxy's own pages that clients do not read |
//! | [`fair`] | a semaphore that shares its permits fairly between addresses |
//! | [`shutdown`], [`telemetry`] | the stages of the shutdown, and signals; logs |
//!
//! Imports point in one direction: `cli → server → {accept, tls, connection, handler} → {route,
//! upstream, relay} → {exporter, deadline, error}`. `config` knows the domain types, and the domain
//! types do not know `config`. A test checks this (`tests/layers.rs`).
//!
//! # What scrapegate does not do
//!
//! It does not merge exporters, poll, cache, relabel, retry after the first byte, or run scripts.

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
