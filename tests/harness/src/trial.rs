//! Shared parts of the benchmarks `overload` and `soak`, which test the real binary: the duration,
//! the results of the participants, and the table of figures with their bounds.

pub mod span;
pub mod table;
pub mod tally;
