//! A scraper receives a complete response if and only if the exporter delivered a complete one in
//! time.
//!
//! Exporters die at every byte of head and framing, and at many bytes of the body. `simulated` has
//! more than a hundred thousand deaths in memory, `sockets` has thousands with the real binary.
//! Both print their counts.

mod answers;
mod deaths;
mod simulated;
mod sockets;
mod streams;
