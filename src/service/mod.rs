//! The process: it binds, runs until the shutdown, and reloads.

pub mod assets;
pub mod reload;
pub mod server;
pub mod signals;
pub mod systemd;
pub mod telemetry;
pub mod workers;
