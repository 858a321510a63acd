//! Compressed answers: for whom, how soon, how many at a time, and how they end.
//!
//! `tests/truncation` has the exporters that die while their answers are compressed.

mod bounds;
mod negotiated;
mod timely;
