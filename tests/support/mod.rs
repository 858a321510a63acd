//! Both sides of the proxy as scripts on real sockets, and the real binary between them.
//!
//! ```text
//! client::Client  ──TLS──▶  proxy::Proxy (the binary)  ──TCP, TLS, Unix──▶  exporter::Exporter
//! ```
//!
//! [`memory`] has the proxy's own code without sockets, in the test's process.
//!
//! Everything blocks and runs on threads, so that a test reads from top to bottom. Whatever is
//! waited for ends in a panic with the log after [`PATIENCE`]; nothing sleeps to become ready.
#![allow(dead_code, reason = "each test target uses its own part of what they share")]

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod documents;
pub(crate) mod exporter;
pub(crate) mod flood;
pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod odd_file;
pub(crate) mod pki;
pub(crate) mod plain;
pub(crate) mod privileges;
pub(crate) mod proxy;
pub(crate) mod verdicts;
pub(crate) mod version1;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// How long anything may take that is bound to happen. Generous, because the machine may be busy;
/// only a test that fails waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Tells threads by its flag that there is enough, also when the test ends in a panic: a scope of
/// threads waits for all of them.
pub(crate) struct EndOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
