//! Reads the values of a section, and reports each error where it is.

use std::path::PathBuf;

use super::{
    diagnostics::{Diagnostic, Diagnostics, Located, Location},
    ini::{Document, KeyValue, Section, SectionNames},
    keys::{MAY_BE_BLANK, Table},
};

/// A value is missing because of an error that was already reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// An optional value, unless it has an error.
pub(super) type Read<T> = Result<Option<Located<T>>, Reported>;

/// Reads the values of one section.
pub(super) struct SectionReader<'a> {
    document: &'a Document,
    table: &'static Table,
    /// The section, if the file has it.
    section: Option<&'a Section>,
    /// The section with defaults for keys that `section` does not have.
    defaults: Option<&'a Section>,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> SectionReader<'a> {
    /// Reads the section of `config.ini` that `table` describes.
    pub(super) fn of_table(
        document: &'a Document,
        table: &'static Table,
        diagnostics: &'a mut Diagnostics,
    ) -> Self {
        Self {
            document,
            table,
            section: document.section(table.section, SectionNames::IgnoreCase),
            defaults: None,
            diagnostics,
        }
    }

    /// Reads `section`. Keys that it does not have are looked up in `defaults`.
    pub(super) fn of_section(
        document: &'a Document,
        table: &'static Table,
        section: &'a Section,
        defaults: Option<&'a Section>,
        diagnostics: &'a mut Diagnostics,
    ) -> Self {
        Self { document, table, section: Some(section), defaults, diagnostics }
    }

    /// The value of `key`, parsed by `parse`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<T> {
        debug_assert!(self.table.own.contains(&key), "`{key}` is in no table");
        let Some((section, entry)) = self.find(key) else {
            return Ok(None);
        };
        let location = self.location_of_entry(section, entry);
        let value = entry.value();
        if value.is_empty() {
            return if MAY_BE_BLANK.contains(&key) {
                Ok(None)
            } else {
                Err(self.error(location, "missing value after `=`"))
            };
        }
        match parse(value) {
            Ok(value) => Ok(Some(Located { value, location })),
            Err(message) if has_inline_comment(value) => {
                Err(self.error(location, format!("{message} ({COMMENT_HINT})")))
            }
            Err(message) => Err(self.error(location, message)),
        }
    }

    /// The value of `key`. If it is absent, the value of `default`, which is written as in a file.
    pub(super) fn read_or<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: &str,
    ) -> Result<T, Reported> {
        match self.read(key, &parse)? {
            Some(located) => Ok(located.value),
            None => parse(default).map_err(|message| {
                let location = self.location_of_default(key);
                self.error(location, message)
            }),
        }
    }

    /// The path that `key` names. A relative path is relative to the folder of the INI file.
    pub(super) fn path(&mut self, key: &'static str) -> Read<PathBuf> {
        let folder = self.document.folder();
        let path = self.read(key, |value| Ok(folder.join(value)))?;
        if let Some(path) = &path {
            if self.find(key).is_some_and(|(_, entry)| has_inline_comment(entry.value())) {
                let warning = format!("the whole value is used as the path ({COMMENT_HINT})");
                self.diagnostics.push(path.warning(warning));
            }
        }
        Ok(path)
    }

    /// Whether `key` is in the section itself.
    pub(super) fn is_own(&self, key: &str) -> bool {
        self.section.is_some_and(|section| section.entry(key).is_some())
    }

    /// Where `key` is: in the section, or in the section with the defaults.
    pub(super) fn location_of(&self, key: &str) -> Option<Location> {
        let (section, entry) = self.find(key)?;
        Some(self.location_of_entry(section, entry))
    }

    /// Reports a missing `key`. Reports nothing if an earlier error may hide the key.
    pub(super) fn missing(&mut self, key: &str, message: &str) -> Reported {
        let uncertain =
            [self.section, self.defaults].into_iter().flatten().any(|section| section.uncertain);
        if uncertain || self.document.uncertain {
            return Reported;
        }
        let location = Location {
            line: self.section.map(|section| section.line),
            ..self.location_of_default(key)
        };
        self.error(location, message)
    }

    /// Like [`Self::missing`], for keys of several sections.
    pub(super) fn missing_in_file(&mut self, message: &str) -> Reported {
        let uncertain = self.document.sections.iter().any(|section| section.uncertain);
        if uncertain || self.document.uncertain {
            return Reported;
        }
        self.error(Location::of_file(&self.document.file), message)
    }

    /// Where a missing `key` would belong.
    pub(super) fn location_of_default(&self, key: &str) -> Location {
        let name = self.section.map_or(self.table.section, |section| &section.name);
        Location {
            section: Some(name.to_owned()),
            key: Some(key.to_owned()),
            ..Location::of_file(&self.document.file)
        }
    }

    /// Reports an error.
    pub(super) fn error(&mut self, location: Location, message: impl Into<String>) -> Reported {
        self.diagnostics.push(Diagnostic::error(location, message));
        Reported
    }

    /// Reports a warning.
    pub(super) fn warning(&mut self, location: Location, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(location, message));
    }

    fn location_of_entry(&self, section: &Section, entry: &KeyValue) -> Location {
        let key = Some(entry.canonical.as_str());
        Location::at(&self.document.file, entry.line, &section.name, key)
    }

    fn find(&self, key: &str) -> Option<(&'a Section, &'a KeyValue)> {
        [self.section, self.defaults]
            .into_iter()
            .flatten()
            .find_map(|section| Some((section, section.entry(key)?)))
    }
}

const COMMENT_HINT: &str = "put comments on a separate line";

fn has_inline_comment(value: &str) -> bool {
    value.contains(" ;") || value.contains(" #")
}
