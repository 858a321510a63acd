//! Timeouts and limits for connections.

use std::num::NonZeroU32;

use super::{
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};
use crate::common::deadline::Budget;

/// Timeouts and limits for connections (`[proxy]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The limit of a TLS handshake, from accept to its end. Default 5 s.
    pub handshake_timeout: Budget,
    /// The limit of a request's head, from its first byte (or from the end of the handshake) to its
    /// last byte. Default 5 s.
    pub header_timeout: Budget,
    /// How long a connection may be idle between two requests. Default 330 s.
    pub idle_timeout: Budget,
    /// How long a write may wait for the socket to accept a byte. It is also the limit of a whole
    /// response of the proxy itself. Default 10 s.
    pub stall_timeout: Budget,
    /// How long scrapes in flight may continue after `SIGTERM`. Default 30 s.
    pub drain_timeout: Budget,
    /// The largest number of concurrent connections. Default 4096.
    pub max_connections: NonZeroU32,
    /// The largest number of unfinished handshakes. Default 256.
    pub max_handshakes: NonZeroU32,
    /// The largest number of concurrent connections from one address. Default 512.
    pub max_connections_per_ip: NonZeroU32,
}

impl Limits {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let handshake_timeout = reader.read_or("handshake-timeout", values::seconds, "5");
        let header_timeout = reader.read_or("header-timeout", values::seconds, "5");
        let idle_timeout = reader.read_or("idle-timeout", values::seconds, "330");
        let stall_timeout = reader.read_or("stall-timeout", values::seconds, "10");
        let drain_timeout = reader.read_or("drain-timeout", values::seconds, "30");
        let max_connections = reader.read_or("max-connections", values::count, "4096");
        let max_handshakes = reader.read_or("max-handshakes", values::count, "256");
        let max_connections_per_ip = reader.read_or("max-connections-per-ip", values::count, "512");
        Ok(Self {
            handshake_timeout: handshake_timeout?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            stall_timeout: stall_timeout?,
            drain_timeout: drain_timeout?,
            max_connections: max_connections?,
            max_handshakes: max_handshakes?,
            max_connections_per_ip: max_connections_per_ip?,
        })
    }
}
