//! scrapegate.
pub mod config;
pub mod deadline;
pub mod exporter;
