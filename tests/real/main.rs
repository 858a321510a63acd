//! The real binary between real counterparts from Debian: Prometheus, node_exporter,
//! mysqld_exporter, curl, openssl and strace.
//!
//! `cargo test --features real-exporters --test real`; `.ci/run` installs the packages.

mod daemons;
mod openitcockpit;
mod openssl_pki;
mod prometheus;
mod system_calls;

#[path = "../support/mod.rs"]
mod support;
