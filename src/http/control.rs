//! What the handler of a request tells the connection, and asks it.

use super::answers::AnswerPermit;
use crate::{
    common::{deadline::Deadline, error::ConnectionAfter},
    scrape::{delivery::DeliveryControl, link::Link},
};

/// The control of a connection that a handler needs. The state of the scraper's connection
/// implements it.
pub trait ConnectionControl: DeliveryControl {
    /// A request head is complete.
    fn request_arrived(&self);

    /// The handler answers with a response of the proxy itself.
    fn responding(&self, after: ConnectionAfter);

    /// Keeps `permit` until the socket has accepted the whole answer, or until the connection ends.
    fn holds(&self, permit: AnswerPermit);

    /// The handler has returned the head of an exporter's answer. From now on the connection
    /// enforces the deadline.
    fn relaying(&self, deadline: Deadline);

    /// The connection to the scraper, as far as the plan of a scrape depends on it.
    fn link(&self) -> Link;

    /// Whether the client is no longer authorized. The connection must not answer further requests.
    fn is_dismissed(&self) -> bool;
}
