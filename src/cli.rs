//! The command line: one file a subcommand.

pub(crate) mod certs;
pub(crate) mod demo;
