//! Reads the files that an operator names, whatever they turn out to be.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileType, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

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

/// The files that one load of the configuration read, each with a digest of its contents.
///
/// Two values are equal if all contents are equal. Modification times do not count. A symbolic link
/// counts as its target. Whether everyone can read or write a file counts too, because that decides
/// whether a secret is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    prints: BTreeMap<PathBuf, Print>,
    progress: Progress,
}

/// The file that is being read now. A thread that waits for the reading thread uses it to name the
/// file. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Option<PathBuf>>>);

impl Progress {
    /// The file that is being read now, if any.
    #[must_use]
    pub fn reading(&self) -> Option<PathBuf> {
        self.lock().clone()
    }

    /// Marks `path` as being read until the guard is dropped.
    pub(crate) fn begin(&self, path: &Path) -> Reading<'_> {
        *self.lock() = Some(path.to_owned());
        Reading(self)
    }

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guard of [`Progress::begin`].
pub(crate) struct Reading<'a>(&'a Progress);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// All values are equal, because the progress says nothing about contents.
impl PartialEq for Progress {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Progress {}

/// A digest of a file's contents, or of the reason why the file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    limit: u64,
    digest: [u8; 32],
}

impl FileSet {
    /// The progress of reading these files.
    #[cfg(test)]
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// No file yet. `progress` shows which file is being read.
    #[must_use]
    pub fn with_progress(progress: Progress) -> Self {
        Self { prints: BTreeMap::new(), progress }
    }

    /// Calls [`read`] and keeps a digest of the result.
    ///
    /// If a file is read twice, the first digest is kept. [`FileSet::again`] then reports a change
    /// if the file changed between the two reads.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let reading = self.progress.begin(path);
        // Before the contents, so that the next check sees a mode that changes in between.
        let open = open_to_everyone(path);
        let outcome = read(path, limit);
        drop(reading);
        let digest = digest(open, &outcome);
        self.prints.entry(path.to_owned()).or_insert(Print { limit, digest });
        outcome
    }

    /// Reads the same files again.
    #[must_use]
    pub fn again(&self, progress: Progress) -> Self {
        let mut now = Self::with_progress(progress);
        for (path, Print { limit, .. }) in &self.prints {
            // The digest includes the error.
            let _ = now.read(path, *limit);
        }
        now
    }
}

fn digest(open: Option<Open>, outcome: &Result<Vec<u8>, ReadError>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let [read, write] = [Open::is_readable, Open::is_writable].map(|is| open.is_some_and(is));
    context.update(&[u8::from(read), u8::from(write), u8::from(outcome.is_ok())]);
    match outcome {
        Ok(bytes) => context.update(bytes),
        Err(error) => context.update(error.to_string().as_bytes()),
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
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

    fn files(folder: &Path) -> FileSet {
        let mut files = FileSet::default();
        for name in ["one", "two", "none"] {
            let _ = files.read(&folder.join(name), LIMIT);
        }
        files
    }

    #[test]
    fn only_contents_count_as_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "1").unwrap();
        fs::write(path("two"), "2").unwrap();
        let seen = files(folder.path());
        assert_eq!(seen.again(Progress::default()), seen);

        fs::write(path("new"), "1").unwrap();
        fs::rename(path("new"), path("one")).unwrap();
        assert_eq!(seen.again(Progress::default()), seen, "another file with the same contents");
        for change in [
            (|path| fs::write(path, "3").unwrap()) as fn(PathBuf),
            |path| fs::write(path, "").unwrap(),
            |path| fs::write(path, "more than the limit").unwrap(),
            |path| fs::remove_file(path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ] {
            let before = seen.again(Progress::default());
            change(path("one"));
            assert_ne!(seen.again(Progress::default()), before);
        }
        fs::remove_dir(path("one")).unwrap();
        fs::write(path("one"), "1").unwrap();
        assert_eq!(seen.again(Progress::default()), seen, "the original contents");
        fs::write(path("none"), "").unwrap();
        assert_ne!(seen.again(Progress::default()), seen, "a file that was missing");
    }

    #[cfg(unix)]
    #[test]
    fn making_a_file_private_counts_as_a_change() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let seen = files(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(seen.again(Progress::default()), seen);
    }

    #[cfg(unix)]
    #[test]
    fn f03_a_fifo_that_replaces_a_file_after_the_check_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        // Without a writer, opening and reading would both block.
        let outcome = read_opened(open(&path).unwrap(), LIMIT);
        assert!(matches!(outcome, Err(ReadError::NotAFile("a FIFO"))), "{outcome:?}");
    }

    #[test]
    fn progress_shows_the_file_that_is_being_read() {
        let progress = Progress::default();
        let mut files = FileSet::with_progress(progress.clone());
        assert_eq!(progress.reading(), None);
        *progress.lock() = Some("before".into());
        let _ = files.read(Path::new("none"), LIMIT);
        assert_eq!(progress.reading(), None, "no file is being read");
    }

    #[test]
    fn the_first_digest_is_kept_if_a_file_changes_between_two_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "1").unwrap();
        let mut seen = FileSet::default();
        assert_eq!(seen.read(&path, LIMIT).unwrap(), b"1");
        fs::write(&path, "2").unwrap();
        assert_eq!(seen.read(&path, LIMIT).unwrap(), b"2");
        assert_ne!(seen.again(Progress::default()), seen, "the file changed after the first read");
    }
}
