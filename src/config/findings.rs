//! What is wrong with a file, and where.

use std::{fmt, path::PathBuf, sync::Arc};

/// Where a value was written, or would have been: file, line, section, key.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        Finding {
            severity: Severity::Error,
            origin: self.origin.clone(),
            message: message.into(),
        }
    }

    /// A warning about this value.
    pub fn warning(&self, message: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Warning,
            ..self.error(message)
        }
    }
}

/// Whether a finding stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Said, and gone on.
    Warning,
    /// Refused.
    Error,
}

/// One thing that is wrong, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it stops the start.
    pub severity: Severity,
    /// Where.
    pub origin: Origin,
    /// What, and what to write instead. Never contains a secret.
    pub message: String,
}

impl fmt::Display for Finding {
    /// `FILE:LINE: [SECTION] KEY: error: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
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

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0
            .iter()
            .any(|finding| finding.severity == Severity::Error)
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
