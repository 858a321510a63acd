//! Reading the files an operator names, whatever they turn out to be.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be looked at or opened: missing, not permitted, a loop of symlinks.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A folder, a FIFO, a device or a socket. Opening a FIFO would wait for a writer.
    #[error("is not a regular file")]
    NotRegular,
    /// Larger than the limit, in bytes.
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads a regular file of at most `limit` bytes; symlinks are followed.
///
/// # Errors
/// See [`ReadError`].
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular);
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may have grown since, or be a file whose size is not known beforehand.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge(limit)) } else { Ok(bytes) }
}
