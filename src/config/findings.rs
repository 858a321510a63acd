//! What is wrong with a file, and where.

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

/// Where a value was written, or would have been: file, line, section, key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, from 1; absent for a default or for the file as a whole.
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

    /// A file as a whole.
    pub(super) fn of_file(file: &Arc<PathBuf>) -> Self {
        Self { file: Arc::clone(file), line: None, section: None, key: None }
    }
}

impl fmt::Display for Origin {
    /// `FILE:LINE: [SECTION] KEY`, as far as known.
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

/// A value with where it came from, so that what is found out later can still name the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// An error about this value.
    pub fn error(&self, message: impl Into<String>) -> Finding {
        Finding::error(self.origin.clone(), message)
    }

    /// An error about this value that time heals.
    pub fn not_yet(&self, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::NotYet, ..self.error(message) }
    }

    /// A warning about this value.
    pub fn warning(&self, message: impl Into<String>) -> Finding {
        Finding::warning(self.origin.clone(), message)
    }
}

/// Whether a finding stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Said, and gone on.
    Warning,
    /// Refused for now: it heals with time, or with a clock that is set.
    NotYet,
    /// Refused.
    Error,
}

/// One thing that is wrong, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Whether it stops the start.
    pub severity: Severity,
    /// Where.
    pub origin: Origin,
    /// What, and what to write instead. Never contains a secret.
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

/// All that was found, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Orders the findings about one file by line, those about the file as a whole first, and
    /// keeps one of equal ones: a default that is wrong is so in every section that uses it.
    pub(super) fn tidy(&mut self) {
        self.0.sort_by_key(|finding| finding.origin.line);
        let mut seen = HashSet::new();
        self.0.retain(|finding| seen.insert(finding.clone()));
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity > Severity::Warning)
    }

    /// Whether there are errors, and time heals all of them.
    #[must_use]
    pub fn heal_with_time(&self) -> bool {
        let worst = self.0.iter().map(|finding| finding.severity).max();
        worst == Some(Severity::NotYet)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Findings {
    /// One a line.
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
