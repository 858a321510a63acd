//! One connection to an exporter: connect, send the request, read the response head, read the body.
//!
//! This module implements the client side of HTTP/1.1 itself. Only the parser of heads is httparse,
//! which hyper uses too. The body is read in the task of the scraper and decoded in place. A chunk
//! therefore costs no wake-up and no pass through the state machine of an HTTP client. Only small
//! chunks are copied.
//!
//! # Why not hyper's client
//!
//! `cargo bench --bench readers` compares this reader with hyper's client connection behind the same
//! [`Source`](crate::scrape::source::Source), polled in the same task, with the same socket options.
//! CPU seconds per GB of the reader alone over loopback, and of proxies that differ in the reader
//! only (`peers --also`, congestion control reno and BBR), with hyper 1.12:
//!
//! | | reader: own | hyper | proxy, reno: own | hyper | proxy, BBR: own | hyper |
//! |---|---|---|---|---|---|---|
//! | 4 KiB chunks | 0.115 | 0.178 | 0.290 | 0.351 | 0.368 | 0.432 |
//! | gzip, 2 KiB chunks | 0.145 | 0.269 | 0.332 | 0.468 | 0.415 | 0.525 |
//! | Content-Length | 0.070 | 0.073 | 0.242 | 0.246 | 0.415 | 0.462 |
//! | 1-byte chunks | 1.78 | 262 | | | | |
//!
//! hyper reads 256 KiB at a time alone, and 64 KiB in the proxies.
//! While a scraper does not read, this reader holds 33 KiB, and hyper 82 KiB (reads of 64 KiB) or
//! 274 KiB (256 KiB). No reader takes a truncated response for a complete one. With hyper:
//!
//! - The extensions of all chunks together may have 16 KiB. A long body with an extension on each
//!   chunk is therefore never complete.
//! - Blanks after a chunk size and informational heads have no limit except the deadline.
//! - Field lines that curl and Prometheus accept are refused. hyper's lenient options accept them,
//!   but also drop a malformed `Transfer-Encoding`. A body would then end with the connection, and
//!   the scraper would get the framing of its chunks.
//!
//! # The files
//!
//! In the order of a scrape:
//!
//! - `connect`: TCP, a Unix socket or TLS, within `connect-timeout`. `look_up` resolves host names.
//! - `exchange`: sends the request (`request`), reads the response head (`head`, which repairs
//!   some malformed fields with `tidy`), and checks the head.
//! - `framing`: where the body ends, by the head.
//! - `body`: reads the body. `chunked` decodes the chunked coding, and `read_coalescing` decides
//!   how many bytes justify a wake-up.
//! - `fault`: the cause of an I/O error on the connection.

mod body;
mod chunked;
mod connect;
mod exchange;
mod fault;
mod framing;
mod head;
mod look_up;
mod read_coalescing;
mod request;
mod tidy;

pub use self::{
    body::UpstreamBody,
    connect::{AnyStream, Connector, MakeStream, Stream},
    exchange::{UpstreamHead, exchange, fetch},
    framing::{Framing, content_length},
    look_up::look_up,
    read_coalescing::{READ_SIZE, ReadCoalescing},
    request::{ExporterRequest, Replaced},
};
