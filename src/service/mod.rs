//! The process. In the order of its life:
//!
//! | file | what it does |
//! |---|---|
//! | [`telemetry`] | starts the log |
//! | [`assets`] | reads and checks the files that the configuration names |
//! | [`workers`] | the threads that run connections |
//! | [`server`] | binds the socket, passes accepted connections to the workers, and drains. [`server::Handle`] controls it |
//! | [`supervisor`] | the socket that the service manager passes, and notifications to the service manager |
//! | [`reload`] | reads the files again, on request and when they change, and gives the result to the server |
//! | [`signals`] | the signals that reload the process and shut it down |

pub mod assets;
pub mod reload;
pub mod server;
pub mod signals;
pub mod supervisor;
pub mod telemetry;
pub mod workers;
