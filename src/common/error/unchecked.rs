//! Why a password could not be checked.

use hyper::StatusCode;

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

impl Unchecked {
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "too many password checks"),
            Self::TooLate => (StatusCode::SERVICE_UNAVAILABLE, "password check took too long"),
            Self::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "password check failed"),
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::QueueFull => "password_queue_full",
            Self::TooLate => "password_too_late",
            Self::Failed(_) => "password_check_failed",
        }
    }
}
