//! The files that one load of the configuration read, to find changes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    permissions::{Open, open_to_everyone},
    read::{ReadError, read},
};

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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

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
