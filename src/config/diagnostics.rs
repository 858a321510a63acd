//! Diagnostics: the problems of the files, and where they are.

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

/// Where a value is written, or where it would be: file, line, section, key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, from 1. Absent for a default, and for the file as a whole.
    pub line: Option<u32>,
    /// The section, without brackets.
    pub section: Option<String>,
    /// The key.
    pub key: Option<String>,
}

impl Location {
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

impl fmt::Display for Location {
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

/// A value and where it was written, so that a later diagnostic can name the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where the value was written.
    pub location: Location,
}

impl<T> Located<T> {
    /// An error about this value.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.location.clone(), message)
    }

    /// An error about this value that time will resolve.
    pub fn not_yet(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::NotYet, ..self.error(message) }
    }

    /// A warning about this value.
    pub fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.location.clone(), message)
    }
}

/// How severe a diagnostic is.
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
pub struct Diagnostic {
    /// How severe the problem is.
    pub severity: Severity,
    /// Where the problem is.
    pub location: Location,
    /// The problem, and what to write instead. Never contains a secret.
    pub message: String,
}

impl Diagnostic {
    pub(super) fn error(location: Location, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, location, message: message.into() }
    }

    pub(super) fn warning(location: Location, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(location, message) }
    }
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE: [SECTION] KEY: error: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::NotYet | Severity::Error => "error",
        };
        write!(f, "{}: {severity}: {}", self.location, self.message)
    }
}

/// All diagnostics, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds a diagnostic.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Sorts the diagnostics about one file by line, with those about the whole file first. Removes
    /// duplicates: an error in a default occurs in every section that uses it.
    pub(super) fn tidy(&mut self) {
        self.0.sort_by_key(|diagnostic| diagnostic.location.line);
        let mut seen = HashSet::new();
        self.0.retain(|diagnostic| seen.insert(diagnostic.clone()));
    }

    /// Whether a diagnostic is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity > Severity::Warning)
    }

    /// Whether there are errors that time will resolve, and no others.
    #[must_use]
    pub fn heal_with_time(&self) -> bool {
        let worst = self.0.iter().map(|diagnostic| diagnostic.severity).max();
        worst == Some(Severity::NotYet)
    }

    /// All diagnostics.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Diagnostics {
    /// One diagnostic per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_time_resolves_heal_with_time() {
        let location = Location::of_file(&Arc::new(PathBuf::from("x")));
        let value = Located { value: (), location };
        let (error, later, warning) =
            (value.error("error"), value.not_yet("later"), value.warning("warning"));
        for (found, heal) in [
            (vec![], false),
            (vec![&warning], false),
            (vec![&later], true),
            (vec![&warning, &later], true),
            (vec![&later, &error], false),
        ] {
            let mut diagnostics = Diagnostics::default();
            found.iter().for_each(|one| diagnostics.push((*one).clone()));
            assert_eq!(diagnostics.heal_with_time(), heal, "{found:?}");
        }
    }
}
