//! Files for the configuration to read, in a temporary folder for each thread.

use std::{
    fs,
    path::{Path, PathBuf},
};

use scrapegate::config::{Diagnostics, Severity};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = TempDir::with_prefix("scrapegate-fuzz-").expect("a temporary folder");
}

/// Writes a file, and replaces an existing one.
pub(crate) fn written(name: &str, contents: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join(name));
    fs::write(&path, contents).expect("written");
    path
}

/// Asserts that each diagnostic is one line that names the file. A line number in a diagnostic must
/// exist.
///
/// # Panics
///
/// If a diagnostic violates this.
pub(crate) fn assert_sane(diagnostics: &Diagnostics, file: &Path, contents: &[u8]) {
    let line_feeds = contents.iter().filter(|&&byte| byte == b'\n').count();
    for diagnostic in diagnostics.iter() {
        assert_eq!(diagnostic.location.file.as_path(), file, "{diagnostic}");
        let line =
            diagnostic.location.line.map_or(1, |line| usize::try_from(line).expect("a line"));
        assert!((1..=line_feeds + 1).contains(&line), "{diagnostic}");
        let shown = diagnostic.to_string();
        assert!(!shown.chars().any(char::is_control), "{}", shown.escape_debug());
        assert!(!diagnostic.message.is_empty(), "{diagnostic}");
    }
}

/// The diagnostics that are errors.
pub(crate) fn errors(
    diagnostics: &Diagnostics,
) -> impl Iterator<Item = &scrapegate::config::Diagnostic> {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
}
