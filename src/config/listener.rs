//! The listener: its address, and how its connections are secured.

use std::net::SocketAddr;

use super::{
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    sources::Sources,
    transport::{self, Transport},
    values,
};

/// The listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// `[default] address` and `port`. Default 0.0.0.0:3333.
    pub address: SocketAddr,
    /// How connections from scrapers are secured.
    pub transport: Transport,
    /// `[default] tls-security-level`. Default `intermediate`.
    pub tls_level: TlsLevel,
}

/// `[default] tls-security-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsLevel {
    /// TLS 1.2 and 1.3; the same suites as `Intermediate`, because rustls has no weaker ones.
    Lax,
    /// TLS 1.2 and 1.3, with ECDHE and AEAD suites.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

const TLS_LEVELS: &[(&str, TlsLevel)] = &[
    ("lax", TlsLevel::Lax),
    ("intermediate", TlsLevel::Intermediate),
    ("modern", TlsLevel::Modern),
];

impl ListenerConfig {
    pub(super) fn read(
        document: &Document,
        sources: &Sources,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
        let tls_level =
            reader.read_or("tls-security-level", values::one_of(TLS_LEVELS), "intermediate");
        let address = address(&mut reader, sources);
        let transport = transport::read(document, address, diagnostics);
        Ok(Self { address: address?, transport: transport?, tls_level: tls_level? })
    }
}

/// The command line's address, else `address` and `port`.
fn address(reader: &mut SectionReader<'_>, sources: &Sources) -> Result<SocketAddr, Reported> {
    let address = reader.read_or("address", values::address, "0.0.0.0");
    let port = reader.read_or("port", values::port, "3333");
    let written = SocketAddr::new(address?, port?.get());
    Ok(sources.listen.unwrap_or(written))
}
