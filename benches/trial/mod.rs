//! Shared parts of siege and soak, which test the real binary: the duration, the results of the
//! participants, and the table of figures with their bounds.

pub(crate) mod span;
pub(crate) mod table;
pub(crate) mod tally;
