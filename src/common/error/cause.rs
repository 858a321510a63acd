//! Underlying errors of other crates and of the system.

use std::{fmt, io};

/// The underlying error, of any type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Whether the error says that the system has no file descriptor or memory for another connection.
#[must_use]
pub fn lacks_resources(error: &io::Error) -> bool {
    /// std has no `ErrorKind` for these. A socket returns `ENOBUFS` if there is no memory for its
    /// buffers. `ENOMEM` has a kind.
    #[cfg(unix)]
    const NO_RESOURCES: &[i32] = &[libc::ENFILE, libc::EMFILE, libc::ENOBUFS];
    #[cfg(not(unix))]
    const NO_RESOURCES: &[i32] = &[];
    error.raw_os_error().is_some_and(|code| NO_RESOURCES.contains(&code))
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// An error with all its sources, in one line. A source is omitted if the text so far already ends
/// with it: some libraries include the text of the source in their errors.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            source = error.source();
        }
        Ok(())
    }
}
