//! The properties of scrapegate that are fuzzed, one module each.
//!
//! Each has a function `check` that asserts its property for one input. Fuzz targets call it with
//! what libFuzzer makes up; `tests/replay.rs` calls it with every seed and every input that once
//! failed. What is expected is worked out here anew, with code that the proxy does not use.
//!
//! | module | has |
//! |---|---|
//! | [`client_certificate`], [`config_ini`], [`exporters_ini`], [`pem`], [`query`], [`relay`], [`request`], [`scrape_timeout`] | a property each |
//! | `wire` | HTTP/1.1 read after RFC 9112 |
//! | `script`, `memory`, `rig` | both ends of the proxy, in memory and in paused time |
//! | `proxy` | the proxy between them, as the proxy's own tests have it |
//! | `records`, `files` | what the proxy logs; the files it reads |

pub mod client_certificate;
pub mod config_ini;
pub mod exporters_ini;
mod files;
mod memory;
pub mod pem;
#[expect(dead_code, reason = "the proxy's own tests use the rest")]
#[path = "../../tests/support/memory.rs"]
mod proxy;
pub mod query;
mod records;
pub mod relay;
pub mod request;
mod rig;
pub mod scrape_timeout;
mod script;
mod wire;

use std::time::Duration;

/// A scrape's deadline, and every clock of a connection. Time is paused: it costs nothing.
const PATIENCE: Duration = Duration::from_secs(4);
