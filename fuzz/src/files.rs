//! Files for the configuration to read, in a temporary folder for each thread.

use std::{
    fs,
    path::{Path, PathBuf},
};

use scrapegate::config::{Findings, Severity};
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

/// Asserts that each finding is one line that names the file. A line number in a finding must
/// exist.
///
/// # Panics
///
/// If a finding violates this.
pub(crate) fn assert_sane(findings: &Findings, file: &Path, contents: &[u8]) {
    let line_feeds = contents.iter().filter(|&&byte| byte == b'\n').count();
    for finding in findings.iter() {
        assert_eq!(finding.origin.file.as_path(), file, "{finding}");
        let line = finding.origin.line.map_or(1, |line| usize::try_from(line).expect("a line"));
        assert!((1..=line_feeds + 1).contains(&line), "{finding}");
        let shown = finding.to_string();
        assert!(!shown.chars().any(char::is_control), "{}", shown.escape_debug());
        assert!(!finding.message.is_empty(), "{finding}");
    }
}

/// The findings that are errors.
pub(crate) fn errors(findings: &Findings) -> impl Iterator<Item = &scrapegate::config::Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Error)
}
