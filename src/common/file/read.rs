//! Reads a file that an operator names, whatever it turns out to be.

use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Why a file was not read, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No file has this name.
    #[error("the file does not exist")]
    Missing,
    /// A symbolic link whose target does not exist.
    #[error("a broken symbolic link: its target does not exist")]
    Dangling,
    /// A folder of the path that this user cannot enter.
    #[error("cannot be read: Permission denied: this user cannot enter the folder {}", .0.display())]
    Barred(PathBuf),
    /// Any other error, such as missing read permission or a loop of symbolic links.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A folder, a FIFO, a device or a socket.
    #[error("{0}, not a file")]
    NotAFile(&'static str),
    /// The file is larger than the limit. Carries the limit in bytes.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
}

/// Whether the bytes look like UTF-16, which Windows editors and PowerShell's `>` write. Such
/// bytes begin with a byte-order mark, or with a character below U+0100.
#[must_use]
pub fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        &[first, second, ..] => (first == 0) != (second == 0),
        _ => false,
    }
}

/// Reads a regular file of at most `limit` bytes. Symbolic links are followed.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Checked before opening, because opening a device can have side effects.
    let metadata = fs::metadata(path).map_err(|error| not_there(path, error))?;
    check(&metadata, limit)?;
    read_opened(open(path).map_err(ReadError::Io)?, limit)
}

/// Opens a file without blocking. Since the check, a FIFO may have replaced the file.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

fn check(metadata: &Metadata, limit: u64) -> Result<(), ReadError> {
    if !metadata.is_file() {
        Err(ReadError::NotAFile(kind(metadata.file_type())))
    } else if metadata.len() > limit {
        Err(ReadError::TooLarge(limit))
    } else {
        Ok(())
    }
}

fn read_opened(file: File, limit: u64) -> Result<Vec<u8>, ReadError> {
    // The file may have been replaced since the first check.
    check(&file.metadata().map_err(ReadError::Io)?, limit)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    // The length above is 0 for files in /proc, and the file may have grown since.
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge(limit)) } else { Ok(bytes) }
}

fn not_there(path: &Path, error: io::Error) -> ReadError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        // In a folder that this user cannot enter, even looking up `.` fails.
        let is_barred = |folder: &&Path| {
            let inside = fs::metadata(folder.join("."));
            inside.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        if let Some(folder) = path.ancestors().skip(1).filter(is_barred).last() {
            return ReadError::Barred(folder.to_owned());
        }
    }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(matches!(read(&path, 3), Err(ReadError::TooLarge(3))));
    }

    #[cfg(unix)]
    #[test]
    fn f03_a_fifo_that_replaces_a_file_after_the_check_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        // Without a writer, opening and reading would both block.
        let outcome = read_opened(open(&path).unwrap(), 10);
        assert!(matches!(outcome, Err(ReadError::NotAFile("a FIFO"))), "{outcome:?}");
    }
}
