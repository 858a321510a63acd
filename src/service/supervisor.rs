//! The program that starts the service and supervises it.

pub mod systemd;
