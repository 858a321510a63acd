//! Splits a PEM file (RFC 7468) into blocks. Each block is decoded, or has a reason why not.
//!
//! Nothing that could be a block is skipped silently. If a CA is missing from a bundle, its clients
//! are locked out. If a CRL is missing, revoked clients are let in. The parsers of
//! rustls-pki-types, pem and x509-parser skip what they do not know: other labels, a byte-order
//! mark or spaces before a BEGIN line, a block without its END line. So this module reads the lines
//! itself and uses `base64` only for decoding.
//!
//! - `block`: a block, and the reasons why a block cannot be used.
//! - `scan`: finds the blocks of a file. `lines` finds the lines that begin or end a block.
//! - `label`: the kinds of blocks, by their labels.
//! - `purpose`: which blocks a file is read for, and a remark for every other block.
//! - `trusted`: OpenSSL's trust settings.

mod block;
mod label;
mod lines;
mod purpose;
mod scan;
#[cfg(test)]
mod tests;
mod trusted;

pub use self::{
    block::{Block, BlockPlace, Damage},
    purpose::{Contents, Purpose, Remark, private_key, read},
    scan::blocks,
};
