//! How many answers are compressed at the same time.

use std::{num::NonZeroU32, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One of the permits of `max-compressions`. Dropping it returns the permit.
#[derive(Debug)]
pub(super) struct CompressionPermit {
    _permit: OwnedSemaphorePermit,
}

/// The permits of `max-compressions`.
#[derive(Clone, Debug)]
pub struct CompressionPermits {
    permits: Arc<Semaphore>,
    most: NonZeroU32,
}

impl CompressionPermits {
    /// `most` permits.
    #[must_use]
    pub fn new(most: NonZeroU32) -> Self {
        let permits = usize::try_from(most.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))), most }
    }

    /// Takes a permit, or returns `None` if all are in use. Never waits.
    pub(super) fn try_acquire(&self) -> Option<CompressionPermit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(CompressionPermit { _permit: permit })
    }

    /// Takes over the permits of `before` if the number is unchanged, so that scrapes in flight
    /// still count.
    pub fn continue_from(&mut self, before: &Self) {
        if self.most == before.most {
            *self = before.clone();
        }
    }
}

impl Default for CompressionPermits {
    /// The permits of the default of `max-compressions`.
    fn default() -> Self {
        Self::new(NonZeroU32::MIN.saturating_add(31))
    }
}
