//! Everything about certificates: TLS towards scrapers and exporters, trust, and files.
//!
//! - `server`: TLS towards scrapers. Its verifier of client certificates is in `client_verifier`.
//! - `client`: TLS towards exporters, and towards the proxy that `get`, `probe` and `demo` scrape.
//!   Its verifier is in `server_verifier`.
//! - [`verify`]: whether a certificate is trusted. Both verifiers use it, and so does the check of
//!   open connections after a reload. `chain`: which CA a posted certificate leads to.
//! - [`pem`]: splits PEM files into blocks. `inspect`: warns about certificates and keys that parse
//!   but cannot work. `certificate`: reads single fields.
//! - [`pki`]: issues certificates, and writes them to files.
//! - `provider`: the only cryptographic library.

mod certificate;
pub(crate) mod chain;
mod client;
mod client_verifier;
pub(crate) mod inspect;
pub mod pem;
pub mod pki;
mod provider;
mod server;
mod server_verifier;
#[cfg(test)]
mod tests;
pub mod verify;

pub use self::{
    certificate::{date, server_key_matches, validity, wall_clock},
    client::{ClientConfigError, client_tls},
    client_verifier::ClientVerifier,
    provider::provider,
    server::{Clients, ServerConfigError, ServerTls, server_tls},
    server_verifier::Servers,
    verify::{Trust, TrustError},
};

#[cfg(test)]
mod fixtures;
