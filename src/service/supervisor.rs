//! Our side of the program that starts and supervises the process, such as systemd.

pub mod systemd;
