//! Who is at the other end of a connection.

use std::net::SocketAddr;

use crate::tls::ClientIdentity;

/// The scraper's address and, with TLS, who it proved to be.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate's identity; absent without client certificates.
    pub identity: Option<ClientIdentity>,
}

impl Peer {
    /// What logs call the client: its certificate's name, or `-`. No control characters.
    #[must_use]
    pub fn client(&self) -> &str {
        self.identity.as_ref().map_or("-", ClientIdentity::label)
    }
}
