//! Why a password could not be checked.

use hyper::StatusCode;

use super::info::{Blame, ErrorInfo, rows};
use crate::common::{blocking::BlockingError, fair::QueueFull};

/// Why a password could not be checked against its bcrypt hash.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    /// The queue is full, and no other address has more checks in it than this one.
    #[error("too many password checks are waiting")]
    QueueFull,
    /// The deadline passed before the check finished, or the check left too little time for the
    /// scrape.
    #[error("the password check took too long")]
    TooLate,
    /// The check could not run.
    #[error(transparent)]
    Failed(#[from] BlockingError),
}

impl From<QueueFull> for Unchecked {
    fn from(QueueFull: QueueFull) -> Self {
        Self::QueueFull
    }
}

/// The row of a password that could not be checked.
const fn unchecked(reason: &'static str, label: &'static str) -> ErrorInfo {
    ErrorInfo::new(StatusCode::SERVICE_UNAVAILABLE, reason, label, Blame::Proxy)
}

rows! {
    Unchecked => ErrorInfo {
        Self::QueueFull => unchecked("too many password checks", "password_queue_full"),
        Self::TooLate => unchecked("password check took too long", "password_too_late"),
        Self::Failed(_) => unchecked("password check failed", "password_check_failed"),
    }
}
