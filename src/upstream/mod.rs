//! One connection to an exporter: connect, send the request, read the response head, read the body.
//!
//! This module implements the client side of HTTP/1.1 itself. Only the parser of heads is httparse,
//! which hyper uses too. The body is read in the task of the scraper and decoded in place. A chunk
//! therefore costs no wake-up and no pass through the state machine of an HTTP client. Only small
//! chunks are copied. See `benches/README.md` for figures.
//!
//! The files, in the order of a scrape:
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
    request::{ExporterRequest, Replaced},
};
