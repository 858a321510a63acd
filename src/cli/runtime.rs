//! The runtime of commands other than `run`.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime that uses only this thread. A multi-threaded runtime panics if the system refuses a
/// thread.
pub(super) fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
