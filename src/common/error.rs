//! Why a request fails, and the one place that chooses the status of the response.
//!
//! There are two families of errors. A [`Refusal`] happens before the response head is sent and
//! becomes a one-line response. An [`Abort`] happens after the head was sent and can only close the
//! connection. The client reads constant words; the log has the `Display` text and the source
//! chain.
//!
//! Each variant has one row: its [`ErrorInfo`] or [`AbortInfo`]. The lists of all labels and
//! statuses, which metrics and tests use, are made of the same rows.

mod abort;
mod cause;
pub mod certificate;
mod enrol;
mod info;
mod refusal;
#[cfg(test)]
mod tests;
mod unchecked;
mod upstream;

pub(crate) use self::cause::Chain;
pub use self::{
    abort::{Abort, IntegrityFault},
    cause::{Cause, lacks_resources},
    enrol::EnrolError,
    info::{AbortInfo, Blame, ConnectionAfter, ErrorInfo, Scope},
    refusal::{Methods, Refusal},
    unchecked::Unchecked,
    upstream::{Unfilterable, UpstreamError},
};
