//! The properties of scrapegate that are fuzzed, one module for each.
//!
//! Each module has a function `check` that asserts its property for one input. Fuzz targets call it
//! with libFuzzer's inputs. `tests/replay.rs` calls it with every seed and every input that failed
//! in the past. The expected result is computed with code that the proxy does not use.
//!
//! | module | contents |
//! |---|---|
//! | [`client_certificate`], [`compression`], [`config_ini`], [`exporters_ini`], [`filter`], [`pem`], [`query`], [`relay`], [`request`], [`scrape_timeout`], [`transform`] | one property each |
//! | `wire` | an independent reader of HTTP/1.1, after RFC 9112 |
//! | `script`, `rig` | an input as what both ends do, and the proxy between them in paused time |
//! | `records`, `files` | log records of the proxy; files for the proxy |

pub mod client_certificate;
pub mod compression;
pub mod config_ini;
pub mod exporters_ini;
mod files;
pub mod filter;
pub mod pem;
pub mod query;
mod records;
pub mod relay;
pub mod request;
mod rig;
pub mod scrape_timeout;
mod script;
pub mod transform;
mod wire;

use std::time::Duration;

/// The deadline of a scrape and every timeout of a connection. Time is paused, so waiting takes no
/// real time.
const PATIENCE: Duration = Duration::from_secs(4);
