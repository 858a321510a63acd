//! Faulty, stalled and crashed exporters, and scrapers with the same faults: what the proxy does
//! with them.
//!
//! Both peers are scripts on real sockets; the proxy is the real binary. The numbers (`U14`) are
//! those of the project's list of cases.

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
