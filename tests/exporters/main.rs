//! Exporters that lie, stall and die, and scrapers that do: what the proxy makes of them.
//!
//! Both peers are scripts on real sockets, the proxy is the real binary. The numbers (`U14`) are
//! those of the list of hostile cases that the project keeps.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod certificates;
mod connecting;
mod deadlines;
mod departures;
mod errors;
mod integrity;
mod pipelining;
mod refusals;
mod requests;
mod responses;
mod stage;
