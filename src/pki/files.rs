//! Files that are there whole or not at all, and keys that only their owner can read.

#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone: mode 0644 less the umask. For certificates.
    Public,
    /// The owner: mode 0600, from the first moment on. For keys.
    Private,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// Put the new one in its place, in one step. A symbolic link is replaced, not followed.
    Replace,
}

/// Writes a file: afterwards it has all of `contents`, or `path` is as it was.
///
/// # Errors
/// What the file system says; see [`Existing::Keep`].
pub fn write(path: &Path, contents: &[u8], access: Access, existing: Existing) -> io::Result<()> {
    Staged::new(path, contents, access)?.commit(existing)
}

/// A file that is on disk beside its place, under a temporary name. Dropped, it is removed.
///
/// Several files that belong together are staged first, because that is where a full disk or a
/// missing permission shows, and then committed one after the other.
#[derive(Debug)]
pub struct Staged {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    folder: Folder,
}

impl Staged {
    /// Writes `contents` to a temporary file in the folder of `path`, and waits for the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(path: &Path, contents: &[u8], access: Access) -> io::Result<Self> {
        let mut staged = Self::begin(path, access)?;
        staged.write_all(contents)?;
        staged.sync()?;
        Ok(staged)
    }

    /// Makes an empty temporary file in the folder of `path`, to be written piece by piece.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(path: &Path, access: Access) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".scrapegate-");
        #[cfg(unix)]
        builder.permissions(Permissions::from_mode(match access {
            Access::Public => 0o644,
            Access::Private => 0o600,
        }));
        #[cfg(not(unix))]
        let _ = access;
        let folder = folder_of(path);
        let file = builder.tempfile_in(folder)?;
        Ok(Self { file, path: path.to_owned(), folder: Folder::open(folder)? })
    }

    /// Waits for the disk: a rename may reach it before the contents do.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Moves the file to its place in one step.
    ///
    /// # Errors
    /// What the file system says; see [`Existing::Keep`]. The temporary file is gone then. Only when
    /// the disk fails to take the new name is the file in its place all the same.
    pub fn commit(self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Keep => self.file.persist_noclobber(&self.path),
            Existing::Replace => self.file.persist(&self.path),
        }
        .map_err(|refused| refused.error)?;
        self.folder.sync()
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// The folder of a file, open before the file moves: whether that is permitted shows then.
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

    /// Waits until a new name is on disk, so that the names of two files get there in order.
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
            write(&path, b"secret", Access::Private, existing).expect("written");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    #[cfg(unix)]
    fn replacing_a_readable_key_makes_it_private() {
        let folder = folder();
        let path = folder.path().join("a.key");
        write(&path, b"old", Access::Public, Existing::Keep).expect("written");
        write(&path, b"new", Access::Private, Existing::Replace).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&path).expect("readable"), b"new");
    }

    #[test]
    fn an_existing_file_is_kept_and_nothing_is_left_beside_it() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        write(&path, b"first", Access::Public, Existing::Keep).expect("written");
        let refused = write(&path, b"second", Access::Public, Existing::Keep)
            .expect_err("it is there already");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }

    #[test]
    fn a_staged_file_that_is_dropped_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        write(&path, b"first", Access::Public, Existing::Keep).expect("written");
        drop(Staged::new(&path, b"second", Access::Public).expect("staged"));
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }

    #[test]
    fn a_folder_in_the_way_is_an_error_and_leaves_nothing_behind() {
        let folder = folder();
        let path = folder.path().join("a.crt");
        fs::create_dir(&path).expect("a folder");
        write(&path, b"x", Access::Public, Existing::Replace).expect_err("a folder is in the way");
        assert_eq!(names(folder.path()), ["a.crt"]);
    }
}
