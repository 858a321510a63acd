//! What a request is answered with.

use hyper::Response;

use crate::{common::deadline::Deadline, http::body::ResponseBody};

/// The answer to a request that was not refused.
#[derive(Debug)]
pub(super) enum Answer {
    /// A response of the proxy itself.
    Own(Response<ResponseBody>),
    /// An exporter's answer, which must be complete by the deadline.
    Relayed(Response<ResponseBody>, Deadline),
}
