//! Reads the text of a file.

use std::path::Path;

use crate::common::file::{self, FileSet};

/// The largest file that is read, in bytes.
pub(super) const MAX_LEN: u64 = 1024 * 1024;

/// Why the text of a file cannot be read, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextError {
    #[error(transparent)]
    File(#[from] file::ReadError),
    #[error("the file is UTF-16 text; save it as UTF-8")]
    Utf16,
    #[error("not valid UTF-8: invalid byte at offset {offset}")]
    NotUtf8 {
        /// In bytes, from the beginning of the file.
        offset: usize,
        line: u32,
    },
}

impl TextError {
    /// The line of the error, if it is known.
    pub(super) fn line(&self) -> Option<u32> {
        match self {
            Self::NotUtf8 { line, .. } => Some(*line),
            Self::File(_) | Self::Utf16 => None,
        }
    }
}

/// Reads the file at `path`. It must be a regular file, or a symbolic link to one.
pub(super) fn read(path: &Path, files: &mut FileSet) -> Result<String, TextError> {
    let bytes = files.read(path, MAX_LEN)?;
    if file::is_utf16(&bytes) {
        return Err(TextError::Utf16);
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line_feeds = before.iter().filter(|&&byte| byte == b'\n').count();
        TextError::NotUtf8 { offset, line: u32::try_from(line_feeds + 1).unwrap_or(u32::MAX) }
    })
}
