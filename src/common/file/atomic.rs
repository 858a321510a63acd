//! Writes files atomically, and keys so that only their owner can read them.
//!
//! All files that outlive a command or an enrollment are written here. The guarantees:
//!
//! - A reader finds the old contents or all of the new contents, and never a part: the contents are
//!   written to a temporary file in the same folder, which then gets the final name.
//! - After a crash the same holds: the contents are synced to disk before the rename, and the folder
//!   after it. Files that are committed one after the other reach the disk in that order. If you
//!   write a [`Staged`] in parts, call [`Staged::sync`] before [`Staged::commit`].
//! - A private file has mode 0600 from the beginning, also if it replaces a file with another mode.
//! - An error leaves the file unchanged and removes the temporary file. The one exception: if the
//!   sync of the folder fails, the file already has its final name. A killed process may leave a
//!   file `.scrapegate-…`, which nothing reads.

#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::permissions::folder_of;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Everyone: mode 0644 without the bits of the umask. For certificates.
    Public,
    /// Only the owner: mode 0600 from the beginning. For keys.
    Private,
}

/// What to do if the file already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep it, and fail with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// Replace it atomically. A symbolic link is replaced, not followed.
    Replace,
}

/// Writes a file atomically: afterwards it has all of `contents`, or it is unchanged.
///
/// # Errors
/// Any error of the file system; see also [`Existing::Keep`].
pub fn write(
    path: &Path,
    contents: &[u8],
    access: FileAccess,
    existing: Existing,
) -> io::Result<()> {
    Staged::new(path, contents, access)?.commit(existing)
}

/// A file on disk under a temporary name, in the folder of its final name. Dropping it removes it.
///
/// If several files belong together, stage all of them first, and then commit one after the other.
/// A full disk or a missing permission fails the staging, before any file has changed.
#[derive(Debug)]
pub struct Staged {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    folder: Folder,
}

impl Staged {
    /// Writes `contents` to a temporary file in the folder of `path`, and syncs it to disk.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn new(path: &Path, contents: &[u8], access: FileAccess) -> io::Result<Self> {
        let mut staged = Self::begin(path, access)?;
        staged.write_all(contents)?;
        staged.sync()?;
        Ok(staged)
    }

    /// Creates an empty temporary file in the folder of `path`, to be written in parts.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn begin(path: &Path, access: FileAccess) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".scrapegate-");
        #[cfg(unix)]
        builder.permissions(Permissions::from_mode(match access {
            FileAccess::Public => 0o644,
            FileAccess::Private => 0o600,
        }));
        #[cfg(not(unix))]
        let _ = access;
        let folder = folder_of(path).unwrap_or(Path::new("."));
        let file = builder.tempfile_in(folder)?;
        Ok(Self { file, path: path.to_owned(), folder: Folder::open(folder)? })
    }

    /// Syncs the contents to disk. Otherwise the rename could reach the disk before the contents.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Moves the file to its final name atomically.
    ///
    /// # Errors
    /// Any error of the file system; see also [`Existing::Keep`]. The temporary file is then
    /// removed. Only if syncing the folder fails, the file already has its final name.
    pub fn commit(self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Keep => self.file.persist_noclobber(&self.path),
            Existing::Replace => self.file.persist(&self.path),
        }
        .map_err(|refused| refused.error)?;
        self.folder.sync()
    }
}

/// The folder of a file. It is opened before the file moves, so that a missing permission shows
/// early.
#[derive(Debug)]
struct Folder {
    #[cfg(unix)]
    folder: std::fs::File,
}

impl Folder {
    #[cfg(unix)]
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { folder: std::fs::File::open(path)? })
    }

    #[cfg(not(unix))]
    fn open(_: &Path) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Syncs the folder, so that the new names of two files reach the disk in order.
    #[cfg(unix)]
    fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    #[cfg(not(unix))]
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Staged {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    #[cfg(unix)]
    fn a_key_is_readable_by_its_owner_alone() {
        let folder = folder();
        let path = folder.path().join("a.key");
        for existing in [Existing::Keep, Existing::Replace] {
            write(&path, b"secret", FileAccess::Private, existing).expect("written");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    #[cfg(unix)]
    fn replacing_a_readable_key_makes_it_private() {
        let folder = folder();
        let path = folder.path().join("a.key");
        write(&path, b"old", FileAccess::Public, Existing::Keep).expect("written");
        write(&path, b"new", FileAccess::Private, Existing::Replace).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&path).expect("readable"), b"new");
    }

    #[test]
    fn an_existing_file_is_kept_and_no_temporary_file_remains() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        write(&path, b"first", FileAccess::Public, Existing::Keep).expect("written");
        let refused = write(&path, b"second", FileAccess::Public, Existing::Keep)
            .expect_err("it is there already");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }

    #[test]
    fn a_staged_file_that_is_dropped_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        write(&path, b"first", FileAccess::Public, Existing::Keep).expect("written");
        drop(Staged::new(&path, b"second", FileAccess::Public).expect("staged"));
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }

    #[test]
    fn a_folder_with_the_files_name_is_an_error_and_no_temporary_file_remains() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        fs::create_dir(&path).expect("a folder");
        write(&path, b"x", FileAccess::Public, Existing::Replace)
            .expect_err("a folder is in the way");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }
}
