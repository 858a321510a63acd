//! Reading the files an operator names, whatever they turn out to be.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};

/// Why a file was not read, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing has this name.
    #[error("the file does not exist")]
    Missing,
    /// Its target is not there.
    #[error("a symbolic link that points to nothing")]
    Dangling,
    /// A folder on the way to it may not be entered.
    #[error("cannot be read: Permission denied: the folder {} may not be entered", .0.display())]
    Barred(PathBuf),
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

/// The files that one reading of the configuration looked at, with a digest of what each held.
///
/// Contents count and not times: a file that was touched is the same, one that was replaced
/// through a symbolic link is not. Whether everyone can read a file counts too, because secrets
/// are refused for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Print>);

/// What a file held, or why it was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    limit: u64,
    digest: [u8; 32],
}

impl Files {
    /// [`read`]s a file and keeps the digest of what came of it.
    ///
    /// Of a file that is read twice the first digest counts: what was made of it may be old then,
    /// and [`Files::again`] tells.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        // Before the contents: a mode that changes in between is seen by the next look.
        let is_open = mode_if_open(path).is_some();
        let outcome = read(path, limit);
        let digest = digest(is_open, &outcome);
        self.0.entry(path.to_owned()).or_insert(Print { limit, digest });
        outcome
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut now = Self::default();
        for (path, Print { limit, .. }) in &self.0 {
            // What is wrong with it is in its digest.
            let _ = now.read(path, *limit);
        }
        now
    }
}

fn digest(is_open: bool, outcome: &Result<Vec<u8>, ReadError>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[u8::from(is_open), u8::from(outcome.is_ok())]);
    match outcome {
        Ok(bytes) => context.update(bytes),
        Err(error) => context.update(error.to_string().as_bytes()),
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Whether this is UTF-16, as Windows' editors and PowerShell's `>` write it: with a byte-order mark,
/// or with a first character below U+0100.
#[must_use]
pub fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        &[first, second, ..] => (first == 0) != (second == 0),
        _ => false,
    }
}

/// The permissions of a file that everyone can read, as `chmod` has them.
#[cfg(unix)]
#[must_use]
pub fn mode_if_open(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = fs::metadata(path).ok()?.mode();
    (mode & 0o004 != 0).then_some(mode & 0o7777)
}

/// Whether everyone can replace the files of a folder: it is writable for everyone and not sticky.
#[cfg(unix)]
#[must_use]
pub fn everyone_can_replace(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o1002 == 0o002)
}

/// Not known here.
#[cfg(not(unix))]
#[must_use]
pub fn everyone_can_replace(_: &Path) -> bool {
    false
}

/// Not known here.
#[cfg(not(unix))]
#[must_use]
pub fn mode_if_open(_: &Path) -> Option<u32> {
    None
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
    if error.kind() == io::ErrorKind::PermissionDenied {
        // Of a folder that may not be entered not even the name `.` can be looked up.
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

/// Whether this process may create files in a folder.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_writable(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_writable(_: &Path) -> bool {
    true
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

    const LIMIT: u64 = 10;

    fn files(folder: &Path) -> Files {
        let mut files = Files::default();
        for name in ["one", "two", "none"] {
            let _ = files.read(&folder.join(name), LIMIT);
        }
        files
    }

    #[test]
    fn contents_count_and_not_their_age_or_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "1").unwrap();
        fs::write(path("two"), "2").unwrap();
        let seen = files(folder.path());
        assert_eq!(seen.again(), seen);

        fs::write(path("new"), "1").unwrap();
        fs::rename(path("new"), path("one")).unwrap();
        assert_eq!(seen.again(), seen, "another file with the same contents");
        for change in [
            (|path| fs::write(path, "3").unwrap()) as fn(PathBuf),
            |path| fs::write(path, "").unwrap(),
            |path| fs::write(path, "more than the limit").unwrap(),
            |path| fs::remove_file(path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ] {
            let before = seen.again();
            change(path("one"));
            assert_ne!(seen.again(), before);
        }
        fs::remove_dir(path("one")).unwrap();
        fs::write(path("one"), "1").unwrap();
        assert_eq!(seen.again(), seen, "as it was");
        fs::write(path("none"), "").unwrap();
        assert_ne!(seen.again(), seen, "a file that was missing");
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_is_closed_to_the_world_has_changed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let seen = files(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(seen.again(), seen);
    }

    #[test]
    fn of_a_file_that_changes_while_it_is_read_twice_the_first_digest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "1").unwrap();
        let mut seen = Files::default();
        assert_eq!(seen.read(&path, LIMIT).unwrap(), b"1");
        fs::write(&path, "2").unwrap();
        assert_eq!(seen.read(&path, LIMIT).unwrap(), b"2");
        assert_ne!(seen.again(), seen, "what was made of the first is old");
    }
}
