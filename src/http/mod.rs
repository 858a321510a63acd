//! One request: its route, its authorization, and the response. In the order of a request:
//!
//! | file | what it does |
//! |---|---|
//! | [`handler`] | answers one request: route, authorize, then a page or a scrape |
//! | [`control`] | what a handler tells the connection, and asks it |
//! | [`state`] | what all requests share. A reload replaces it |
//! | [`route`] | pure: request head → [`route::Route`] or refusal |
//! | [`access`] | the allow-list of clients, HTTP Basic authentication |
//! | [`respond`], [`body`] | the proxy's own responses; the body of a response |
//! | [`answers`] | bounds the memory of the proxy's own responses that clients do not read |
//! | [`metrics`] | the counts of the process, and `/metrics` |
//! | [`page`] | the status page |
//! | [`discovery`] | pure: exporters → targets for Prometheus' service discovery |
//! | [`enrol`] | enrollment: this host's key, its signing request, the certificate that the server returns |

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
