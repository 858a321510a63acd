//! One request: its route, its authorization, and the response.

pub mod access;
pub mod answers;
pub mod body;
pub mod control;
pub mod discovery;
pub mod enrol;
pub mod handler;
pub mod metrics;
pub mod page;
pub mod respond;
pub mod route;
pub mod state;
