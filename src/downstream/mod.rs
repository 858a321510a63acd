//! The scraper's side of a connection. In the order of the data flow:
//!
//! | file | what it does |
//! |---|---|
//! | [`socket`] | opens the listening socket, and sets the options of accepted sockets |
//! | [`accept`] | accepts connections within the limits of [`accept::Admission`] |
//! | [`session`] | one accepted connection, from accept to close |
//! | [`mod@handshake`] | turns the TCP stream into a TLS stream, within the limits of [`handshake::HandshakeLimiter`] |
//! | [`serving`] | what new connections and requests use, and which clients are authorized. A reload replaces it |
//! | `registry` | the open connections, so that a reload, an expired certificate or the shutdown reaches them |
//! | [`context`] | what all sessions share: the serving state and the registry; drains connections |
//! | [`security`] | how one connection is secured |
//! | [`requests`] | answers the requests of one connection, and logs why the connection ended |
//! | [`connection`] | drives hyper on one stream, and enforces all timeouts |
//! | `linger` | closes a stream so that the client gets the last bytes |
//! | [`state`] | the state of one connection and its timers |

pub mod accept;
pub mod connection;
pub mod context;
pub mod handshake;
mod linger;
mod registry;
pub mod requests;
pub mod security;
pub mod serving;
pub mod session;
pub mod socket;
pub mod state;
mod tcp_info;
