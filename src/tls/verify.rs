//! Decides whether a peer's certificate is trusted, with the same rules for clients and servers.
//!
//! webpki builds and checks paths of X.509 version 3 (RFC 5280 §6). Three rules are added:
//!
//! - **The anchor itself.** A certificate that is byte for byte one of the trust anchors needs no
//!   path, because the configuration names it. openITCOCKPIT uses its CA as its own client
//!   certificate, and many exporters have a self-signed certificate. webpki refuses a CA as an end
//!   entity. This module checks dates, extended key usage and names, and the handshake proves that
//!   the peer has the key.
//! - **X.509 version 1** (`version1`), for a certificate that an anchor has signed.
//! - **The anchor's own dates.** RFC 5280 §6.1.1 does not require them and webpki does not check
//!   them, but an expired CA must not authorize anybody. An anchor that is not a CA must not sign
//!   either.
//!
//! `trust` makes the decision. `anchor` is one trust anchor, `revocation` the CRLs, `version1` a
//! certificate of version 1. `signed` verifies signatures of certificates and CRLs, `handshake`
//! those of handshakes. `fault` names the reason of a refusal.

mod anchor;
mod dates;
mod fault;
mod handshake;
mod revocation;
mod signed;
mod trust;
mod version1;

pub(crate) use self::{anchor::signs, handshake::HandshakeSignatures};
pub use self::{
    revocation::ListError,
    trust::{Role, Trust, TrustError},
};

#[cfg(test)]
mod tests;
