//! What the trials of the real binary share, siege and soak: their time, how those fared who took
//! part, and the table of figures with the bounds that these have to keep.

pub(crate) mod span;
pub(crate) mod table;
pub(crate) mod tally;
