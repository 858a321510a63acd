//! Findings: the problems of the files, and where they are.

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

/// Where a value is written, or where it would be: file, line, section, key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, from 1. Absent for a default, and for the file as a whole.
    pub line: Option<u32>,
    /// The section, without brackets.
    pub section: Option<String>,
    /// The key.
    pub key: Option<String>,
}

impl Origin {
    /// A place in a file.
    pub(super) fn at(file: &Arc<PathBuf>, line: u32, section: &str, key: Option<&str>) -> Self {
        Self {
            file: Arc::clone(file),
            line: Some(line),
            section: Some(section.to_owned()),
            key: key.map(str::to_owned),
        }
    }

    /// The file as a whole.
    pub(super) fn of_file(file: &Arc<PathBuf>) -> Self {
        Self { file: Arc::clone(file), line: None, section: None, key: None }
    }
}

impl fmt::Display for Origin {
    /// `FILE:LINE: [SECTION] KEY`, without the parts that are unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match (&self.section, &self.key) {
            (Some(section), Some(key)) => {
                write!(f, ": [{}] {}", section.escape_debug(), key.escape_debug())
            }
            (Some(section), None) => write!(f, ": [{}]", section.escape_debug()),
            (None, Some(key)) => write!(f, ": {}", key.escape_debug()),
            (None, None) => Ok(()),
        }
    }
}

/// A value and where it was written, so that a later finding can name the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where the value was written.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// An error about this value.
    pub fn error(&self, message: impl Into<String>) -> Finding {
        Finding::error(self.origin.clone(), message)
    }

    /// An error about this value that time will resolve.
    pub fn not_yet(&self, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::NotYet, ..self.error(message) }
    }

    /// A warning about this value.
    pub fn warning(&self, message: impl Into<String>) -> Finding {
        Finding::warning(self.origin.clone(), message)
    }
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Reported, but nothing stops.
    Warning,
    /// An error for now. Time resolves it, or a correct clock.
    NotYet,
    /// An error: the configuration is refused.
    Error,
}

/// One problem, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How severe the problem is.
    pub severity: Severity,
    /// Where the problem is.
    pub origin: Origin,
    /// The problem, and what to write instead. Never contains a secret.
    pub message: String,
}

impl Finding {
    pub(super) fn error(origin: Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, origin, message: message.into() }
    }

    pub(super) fn warning(origin: Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(origin, message) }
    }
}

impl fmt::Display for Finding {
    /// `FILE:LINE: [SECTION] KEY: error: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::NotYet | Severity::Error => "error",
        };
        write!(f, "{}: {severity}: {}", self.origin, self.message)
    }
}

/// All findings, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Sorts the findings about one file by line, with those about the whole file first. Removes
    /// duplicates: an error in a default occurs in every section that uses it.
    pub(super) fn tidy(&mut self) {
        self.0.sort_by_key(|finding| finding.origin.line);
        let mut seen = HashSet::new();
        self.0.retain(|finding| seen.insert(finding.clone()));
    }

    /// Whether a finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity > Severity::Warning)
    }

    /// Whether there are errors that time will resolve, and no others.
    #[must_use]
    pub fn heal_with_time(&self) -> bool {
        let worst = self.0.iter().map(|finding| finding.severity).max();
        worst == Some(Severity::NotYet)
    }

    /// All findings.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Findings {
    /// One finding per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}
