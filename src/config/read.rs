//! A path → its text, without hanging on what is no file.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::Path,
};

/// Largest file that is read.
pub(super) const MAX_LEN: u64 = 1024 * 1024;

/// Why a file has no text, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the file does not exist")]
    Missing,
    #[error("a symbolic link that points to nothing")]
    Dangling,
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("{0}, not a file")]
    NotAFile(&'static str),
    #[error("larger than {MAX_LEN} bytes, too large for a configuration")]
    TooLarge,
    #[error("not UTF-8: the byte at offset {offset} begins no character")]
    NotUtf8 {
        /// From the beginning of the file.
        offset: usize,
        line: u32,
    },
}

impl ReadError {
    /// The line it is about.
    pub(super) fn line(&self) -> Option<u32> {
        match self {
            Self::NotUtf8 { line, .. } => Some(*line),
            Self::Missing | Self::Dangling | Self::Io(_) | Self::NotAFile(_) | Self::TooLarge => {
                None
            }
        }
    }
}

/// Reads the file at `path`, which must be a regular one after following symbolic links.
pub(super) fn text(path: &Path) -> Result<String, ReadError> {
    // Before opening, because opening a FIFO waits for a writer.
    let metadata = fs::metadata(path).map_err(|error| not_there(path, error))?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(kind(metadata.file_type())));
    }
    if metadata.len() > MAX_LEN {
        return Err(ReadError::TooLarge);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes))
        .map_err(ReadError::Io)?;
    // The length above may have been that of a file in /proc, or have changed since.
    if bytes.len() as u64 > MAX_LEN {
        return Err(ReadError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line_feeds = before.iter().filter(|&&byte| byte == b'\n').count();
        ReadError::NotUtf8 { offset, line: u32::try_from(line_feeds + 1).unwrap_or(u32::MAX) }
    })
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
