//! The real binary with real counterparts from Debian: Prometheus, promtool, node_exporter,
//! mysqld_exporter, Go, curl, openssl, sslscan, sslyze, libfaketime and strace.
//!
//! `cargo test --release --features real-exporters --test real`; `.ci/run` installs the packages.
//! Without `--release`, the exporter of `system_calls` is slower than the proxy, which then finds
//! less data to batch.

mod alerts;
mod answers;
mod certificates;
mod clock;
mod compression;
mod daemons;
mod discovery;
mod enrolment;
mod examples;
mod filter;
mod handshakes;
mod hung_files;
mod openitcockpit;
mod openssl_files;
mod openssl_pki;
mod own_metrics;
mod posture;
mod prometheus;
mod status_page;
mod system_calls;
mod verdicts;
mod weak_clients;
