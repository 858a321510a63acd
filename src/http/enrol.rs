//! Enrollment, as the openITCOCKPIT Monitoring Agent does it: a server fetches a signing request for
//! this host's key, and posts the signed certificate together with its CA.
//!
//! The first enrollment uses plain HTTP, and nothing else is served until the host has a
//! certificate. Later renewals require mutual TLS. Whatever a client posts, the files stay
//! unchanged, or contain a certificate that belongs to the key and chains to the CA.

mod check;
mod endpoint;
mod key;
mod policy;
mod store;

pub use self::{
    endpoint::{EnrolmentEndpoint, EnrolmentState},
    policy::{EnrolmentKind, EnrolmentPaths, EnrolmentPolicy},
};
