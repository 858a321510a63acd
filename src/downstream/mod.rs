//! The side of the scraper: accepting connections, TLS handshakes, and HTTP on one stream.

pub mod accept;
pub mod activity;
pub mod connection;
pub mod handshake;
pub mod turns;
