//! What all other rooms share: domain types, errors, and small tools.

pub mod blocking;
pub mod deadline;
pub mod error;
pub mod exporter;
pub mod fair;
pub mod file;
pub mod peer;
pub mod reload;
pub mod shutdown;
