//! The peers of scrapegate as scripts, for its tests, benchmarks and fuzz targets.
//!
//! On real sockets, with the real binary between both sides:
//!
//! ```text
//! client::Client  ──TLS──▶  proxy::Proxy (the binary)  ──TCP, TLS, Unix──▶  exporter::Exporter
//! ```
//!
//! In this process, with the proxy's own code between both sides:
//!
//! ```text
//! in_memory::counted::Scraper  ──plain HTTP──▶  in_memory::Proxy  ──Connector──▶  in_memory::counted::Exporter
//! in_memory::tls::Scraper      ──TLS 1.3─────▶  the same
//! loopback::Scraper            ──TLS 1.3─────▶  loopback::Proxy  ──TCP──▶  loopback::exporter
//! ```
//!
//! Operations on sockets block and run on threads, so that a test reads from top to bottom. Every
//! wait ends after [`PATIENCE`], in a panic with the log. No test sleeps until something is ready.
//!
//! Most functions panic if something does not work, because their callers are tests. Their
//! documentation does not repeat this.

pub mod body;
pub mod client;
pub mod decoder;
pub mod documents;
pub mod exporter;
pub mod flood;
pub mod forge;
pub mod hello;
pub mod in_memory;
pub mod inputs;
pub mod link;
pub mod log;
pub mod loopback;
pub mod message;
pub mod metrics;
pub mod odd_file;
pub mod pki;
pub mod plain;
pub mod privileges;
pub mod proxy;
pub mod side_by_side;
pub mod strace;
pub mod testbed;
pub mod transform;
pub mod trial;
pub mod verdicts;
pub mod version1;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// The longest wait for an event that must happen. It is long, because the machine may be busy.
/// Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `now` has returned the same value for `rest`, and returns that value. Polls, for what
/// has no event to wait for. `None` is not a value yet.
///
/// # Panics
///
/// If the value still changes after [`PATIENCE`].
#[track_caller]
pub fn settled<T: PartialEq>(rest: Duration, now: impl Fn() -> Option<T>) -> T {
    const POLLS: u32 = 10;
    let pause = rest / POLLS;
    let (mut last, mut unchanged, mut waited) = (None, 0, Duration::ZERO);
    while unchanged < POLLS {
        assert!(waited < PATIENCE, "it never stops changing");
        thread::sleep(pause);
        waited += pause;
        let value = now();
        unchanged = if value.is_some() && value == last { unchanged + 1 } else { 0 };
        last = value;
    }
    last.expect("a value")
}

/// Sets its flag when it is dropped, also after a panic, so that the threads of a scope end.
/// Otherwise the scope would wait for them forever.
pub struct EndOnDrop<'a>(pub &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
