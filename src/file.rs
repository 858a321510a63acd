//! Reading the files an operator names, whatever they turn out to be.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::Path,
};

/// Why a file was not read, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing has this name.
    #[error("the file does not exist")]
    Missing,
    /// Its target is not there.
    #[error("a symbolic link that points to nothing")]
    Dangling,
    /// Any other error: not permitted, a loop of links.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A folder, a FIFO, a device or a socket.
    #[error("{0}, not a file")]
    NotAFile(&'static str),
    /// Larger than the limit, in bytes.
    #[error("larger than {0} bytes, the most that is read")]
    TooLarge(u64),
}

/// Reads a regular file of at most `limit` bytes; symbolic links are followed.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Before opening, because opening a FIFO waits for a writer.
    let metadata = fs::metadata(path).map_err(|error| not_there(path, error))?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(kind(metadata.file_type())));
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(ReadError::Io)?;
    // The length above may have been that of a file in /proc, or have changed since.
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge(limit)) } else { Ok(bytes) }
}

fn not_there(path: &Path, error: io::Error) -> ReadError {
    if error.kind() != io::ErrorKind::NotFound {
        ReadError::Io(error)
    } else if fs::symlink_metadata(path).is_ok() {
        ReadError::Dangling
    } else {
        ReadError::Missing
    }
}

#[cfg(unix)]
fn kind(file_type: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;

    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() { "a directory" } else { "a device" }
}
