//! scrapegate.
pub mod cli;
pub mod config;
pub mod deadline;
pub mod exporter;
pub mod pki;
