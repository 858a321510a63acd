//! A scraper receives a complete response if and only if the exporter delivered a complete one in
//! time.
//!
//! Exporters die at every byte of head and framing, and at many bytes of the body. `simulated` has
//! more than a hundred thousand deaths in memory, `sockets` has thousands with the real binary.
//! Both print their counts.

#[path = "../exporters/stage.rs"]
#[expect(dead_code, reason = "shared with the tests of exporters, which need more of it")]
mod stage;
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod deaths;
mod simulated;
mod sockets;
mod streams;
