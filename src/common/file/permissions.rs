//! Who can read, change or replace a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The mode of a file that everyone can read or write, as `chmod` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open(u32);

impl Open {
    const READ: u32 = 0o004;
    const WRITE: u32 = 0o002;

    /// Whether everyone can read the file.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// Whether everyone can write the file.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// The problem and its remedy, such as `key.pem can be read by everyone (mode 0644): chmod o-r
    /// key.pem`.
    #[must_use]
    pub fn problem_of(self, path: &Path) -> String {
        let (access, remedy) = match (self.is_readable(), self.is_writable()) {
            (_, false) => ("can be read by everyone", "o-r"),
            (false, true) => ("can be changed by everyone", "o-w"),
            (true, true) => ("can be read by everyone and changed by everyone", "o-rw"),
        };
        let (path, mode) = (path.display(), self.0);
        format!("{path} {access} (mode {mode:04o}): chmod {remedy} {path}")
    }
}

/// The file's mode if everyone can read or write the file. `None` also if the mode cannot be read.
#[cfg(unix)]
#[must_use]
pub fn open_to_everyone(path: &Path) -> Option<Open> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = fs::metadata(path).ok()?.mode();
    (mode & (Open::READ | Open::WRITE) != 0).then_some(Open(mode & 0o7777))
}

/// Always `None`: file modes exist only on Unix.
#[cfg(not(unix))]
#[must_use]
pub fn open_to_everyone(_: &Path) -> Option<Open> {
    None
}

/// A folder in which everyone can replace this file: the folder of `path`, or the folder of the
/// target if `path` is a symbolic link.
#[must_use]
pub fn folder_open_to_everyone(path: &Path) -> Option<PathBuf> {
    let target = fs::canonicalize(path).ok();
    let paths = [Some(path), target.as_deref()].into_iter().flatten();
    paths.filter_map(folder_of).find(|folder| everyone_can_replace(folder)).map(Path::to_owned)
}

/// The folder of `path`: `.` for a bare file name.
#[must_use]
pub fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Whether everyone can replace the files of a folder: the folder is writable for everyone and not
/// sticky.
#[cfg(unix)]
fn everyone_can_replace(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o1002 == 0o002)
}

/// Always false: file modes exist only on Unix.
#[cfg(not(unix))]
fn everyone_can_replace(_: &Path) -> bool {
    false
}

/// Whether this process may create files in a folder.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_writable(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Always true: this is checked only on Linux.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_writable(_: &Path) -> bool {
    true
}
