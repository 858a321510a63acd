//! Both sides of the proxy as scripts on real sockets, and the real binary between them.
//!
//! ```text
//! client::Client  ──TLS──▶  proxy::Proxy (the binary)  ──TCP, TLS, Unix──▶  exporter::Exporter
//! ```
//!
//! [`memory`] has the proxy's own code without sockets, in the test's process.
//!
//! All operations block and run on threads, so that a test reads from top to bottom. Every wait
//! ends after [`PATIENCE`], in a panic with the log. No test sleeps until something is ready.
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

/// The longest wait for an event that must happen. It is long, because the machine may be busy.
/// Only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sets its flag when it is dropped, also after a panic, so that the threads of a scope end.
/// Otherwise the scope would wait for them forever.
pub(crate) struct EndOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
