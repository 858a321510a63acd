//! Reading the files an operator names, whatever they turn out to be.

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
    /// Nothing has this name.
    #[error("the file does not exist")]
    Missing,
    /// Its target is not there.
    #[error("a broken symbolic link: its target does not exist")]
    Dangling,
    /// A folder on the way to it may not be entered.
    #[error("cannot be read: Permission denied: this user cannot enter the folder {}", .0.display())]
    Barred(PathBuf),
    /// Any other error: not permitted, a loop of links.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A folder, a FIFO, a device or a socket.
    #[error("{0}, not a file")]
    NotAFile(&'static str),
    /// Larger than the limit, in bytes.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
}

/// The files that one reading of the configuration looked at, with a digest of what each held.
///
/// Contents count and not times: a file that was touched is the same, one that was replaced
/// through a symbolic link is not. Whether everyone can read or change a file counts too, because
/// secrets are refused for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    prints: BTreeMap<PathBuf, Print>,
    progress: Progress,
}

/// Which file is being read, for who waits for it on another thread. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Option<PathBuf>>>);

impl Progress {
    /// The file that is being read at this moment.
    #[must_use]
    pub fn reading(&self) -> Option<PathBuf> {
        self.lock().clone()
    }

    /// A file is being read until the guard is dropped.
    pub(crate) fn begin(&self, path: &Path) -> Reading<'_> {
        *self.lock() = Some(path.to_owned());
        Reading(self)
    }

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One file that is being read.
pub(crate) struct Reading<'a>(&'a Progress);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// It says nothing about what the files held.
impl PartialEq for Progress {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Progress {}

/// What a file held, or why it was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    limit: u64,
    digest: [u8; 32],
}

impl Files {
    /// Which of them is being read.
    #[cfg(test)]
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// No file yet; `progress` tells which one is being read.
    #[must_use]
    pub fn with_progress(progress: Progress) -> Self {
        Self { prints: BTreeMap::new(), progress }
    }

    /// [`read`]s a file and keeps the digest of what came of it.
    ///
    /// Of a file that is read twice the first digest counts: what was made of it may be old then,
    /// and [`Files::again`] tells.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let reading = self.progress.begin(path);
        // Before the contents: a mode that changes in between is seen by the next look.
        let open = open_to_everyone(path);
        let outcome = read(path, limit);
        drop(reading);
        let digest = digest(open, &outcome);
        self.prints.entry(path.to_owned()).or_insert(Print { limit, digest });
        outcome
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self, progress: Progress) -> Self {
        let mut now = Self::with_progress(progress);
        for (path, Print { limit, .. }) in &self.prints {
            // What is wrong with it is in its digest.
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

/// The permissions of a file that everyone can read or change, as `chmod` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open(u32);

impl Open {
    const READ: u32 = 0o004;
    const WRITE: u32 = 0o002;

    /// Whether everyone can read it.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// Whether everyone can change it.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// `key.pem can be read by everyone (mode 0644): chmod o-r key.pem`.
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

/// Whether everyone can read or change a file.
#[cfg(unix)]
#[must_use]
pub fn open_to_everyone(path: &Path) -> Option<Open> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = fs::metadata(path).ok()?.mode();
    (mode & (Open::READ | Open::WRITE) != 0).then_some(Open(mode & 0o7777))
}

/// Not known here.
#[cfg(not(unix))]
#[must_use]
pub fn open_to_everyone(_: &Path) -> Option<Open> {
    None
}

/// A folder in which everyone can replace this file: the folder of its name or, behind symbolic
/// links, that of the file itself.
#[must_use]
pub fn folder_open_to_everyone(path: &Path) -> Option<PathBuf> {
    let target = fs::canonicalize(path).ok();
    let paths = [Some(path), target.as_deref()].into_iter().flatten();
    paths.filter_map(folder_of).find(|folder| everyone_can_replace(folder)).map(Path::to_owned)
}

/// The folder that holds the name; of a bare name it is the present one.
#[must_use]
pub fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Whether everyone can replace the files of a folder: it is writable for everyone and not sticky.
#[cfg(unix)]
fn everyone_can_replace(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o1002 == 0o002)
}

/// Not known here.
#[cfg(not(unix))]
fn everyone_can_replace(_: &Path) -> bool {
    false
}

/// Reads a regular file of at most `limit` bytes; symbolic links are followed.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Before opening, because the mere opening of a device can have an effect.
    let metadata = fs::metadata(path).map_err(|error| not_there(path, error))?;
    check(&metadata, limit)?;
    read_opened(open(path).map_err(ReadError::Io)?, limit)
}

/// Opens a file, and never waits for the other end of a FIFO that has taken its place.
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
    // Another file may have taken the place of the one that was looked at before.
    check(&file.metadata().map_err(ReadError::Io)?, limit)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ReadError::Io)?;
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
        assert_eq!(seen.again(Progress::default()), seen, "as it was");
        fs::write(path("none"), "").unwrap();
        assert_ne!(seen.again(Progress::default()), seen, "a file that was missing");
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
        assert_ne!(seen.again(Progress::default()), seen);
    }

    #[cfg(unix)]
    #[test]
    fn f03_a_fifo_that_takes_a_files_place_after_the_look_at_it_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        // Without a writer both steps would wait.
        let outcome = read_opened(open(&path).unwrap(), LIMIT);
        assert!(matches!(outcome, Err(ReadError::NotAFile("a FIFO"))), "{outcome:?}");
    }

    #[test]
    fn who_waits_for_a_file_can_tell_which_one() {
        let progress = Progress::default();
        let mut files = Files::with_progress(progress.clone());
        assert_eq!(progress.reading(), None);
        *progress.lock() = Some("before".into());
        let _ = files.read(Path::new("none"), LIMIT);
        assert_eq!(progress.reading(), None, "it is read");
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
        assert_ne!(seen.again(Progress::default()), seen, "what was made of the first is old");
    }
}
