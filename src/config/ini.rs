//! Splits INI text into sections, keys and values with their lines.
//!
//! rust-ini parses the text, but accepts too much. A missing `]` or `=` swallows the next line, the
//! first of two equal keys wins silently, and a backslash at the end of a line joins two lines. So
//! this module checks every line first and gives rust-ini only lines without errors. Its result
//! must equal the result of this module.

use std::{
    collections::{HashMap, hash_map},
    path::{Path, PathBuf},
    sync::Arc,
};

use ini::{Ini, ParseOption};

use super::{
    diagnostics::{Diagnostic, Diagnostics, Location},
    line::{Line, Mistake, SPACE},
};

/// A file, as sections of entries.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) file: Arc<PathBuf>,
    /// The sections in file order, each name once.
    pub(super) sections: Vec<Section>,
    /// Whether an error was reported that may hide a whole section.
    pub(super) uncertain: bool,
}

/// A `[section]`.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) entries: Vec<KeyValue>,
    /// Whether an error was reported that may hide one of its keys. A key that seems to be missing
    /// may be there.
    pub(super) uncertain: bool,
    /// Whether the header is broken, which was reported.
    pub(super) name_is_guessed: bool,
}

/// A `key = value`.
#[derive(Debug)]
pub(super) struct KeyValue {
    /// The key, as written.
    pub(super) key: String,
    /// The key, as compared: see [`canonical`].
    pub(super) canonical: String,
    pub(super) line: u32,
    value: String,
}

/// How section names are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum SectionNames {
    /// `[Default]` and `[default]` are the same section.
    IgnoreCase,
    /// `[Node]` and `[node]` are different sections.
    ByteForByte,
}

impl SectionNames {
    pub(super) fn same(self, a: &str, b: &str) -> bool {
        match self {
            Self::IgnoreCase => a.eq_ignore_ascii_case(b),
            Self::ByteForByte => a == b,
        }
    }

    fn folded(self, name: &str) -> String {
        match self {
            Self::IgnoreCase => name.to_ascii_lowercase(),
            Self::ByteForByte => name.to_owned(),
        }
    }
}

impl Document {
    /// The base folder of relative paths in the file.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The section with this name.
    pub(super) fn section(&self, name: &str, names: SectionNames) -> Option<&Section> {
        self.sections.iter().find(|section| names.same(&section.name, name))
    }
}

impl Section {
    /// The entry with this canonical key.
    pub(super) fn entry(&self, key: &str) -> Option<&KeyValue> {
        self.entries.iter().find(|entry| entry.canonical == key)
    }
}

impl KeyValue {
    /// The value, literally. If it is enclosed in one pair of double quotes, without them.
    pub(super) fn value(&self) -> &str {
        self.value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|inner| !inner.contains('"'))
            .unwrap_or(&self.value)
    }
}

/// The form in which keys are compared: lower case, with `-` for `_`.
pub(super) fn canonical(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', "-")
}

/// Parses `text`. Problems of its lines are added to `diagnostics`.
pub(super) fn parse(
    file: &Arc<PathBuf>,
    text: &str,
    names: SectionNames,
    diagnostics: &mut Diagnostics,
) -> Document {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lint = Lint {
        document: Document { file: Arc::clone(file), sections: Vec::new(), uncertain: false },
        names,
        current: Current::BeforeAny,
        first_lines: HashMap::new(),
        keys: HashMap::new(),
        handed_over: String::with_capacity(text.len() + 64),
        diagnostics,
    };
    let body = text.trim_start_matches('\u{feff}');
    if body.len() != text.len() {
        lint.error(1, None, None, "more than one byte order mark".to_owned());
    }
    for (line, number) in body.split_inclusive('\n').zip(1..) {
        lint.line(line, number);
    }
    lint.cross_check();
    lint.document
}

/// The section to which the next lines belong.
#[derive(Clone, Copy)]
enum Current {
    BeforeAny,
    /// The last section so far.
    Open,
    /// A section that is refused. Its entries are checked but not kept.
    Refused,
}

struct Lint<'a> {
    document: Document,
    names: SectionNames,
    current: Current,
    /// The line of each section, by its name as compared.
    first_lines: HashMap<String, u32>,
    /// The line of each key of the current section.
    keys: HashMap<String, u32>,
    /// The text for rust-ini, line by line.
    handed_over: String,
    diagnostics: &'a mut Diagnostics,
}

impl Lint<'_> {
    fn line(&mut self, line: &str, number: u32) {
        let line = match line.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => line,
        };
        let good = match Line::of(line) {
            Ok(Line::BlankOrComment) => false,
            Ok(Line::Header(name)) => self.header(name, number),
            Ok(Line::KeyValue { key, value }) => self.entry(key, value, number),
            Err(mistake) => {
                self.mistake(line, number, &mistake);
                false
            }
        };
        if good {
            self.handed_over.push_str(line);
        }
        // CRLF, because rust-ini joins a line that ends in a backslash with the next line if a bare
        // LF follows, even if escapes are disabled.
        self.handed_over.push_str("\r\n");
    }

    fn mistake(&mut self, line: &str, number: u32, mistake: &Mistake) {
        if let Some(rest) = line.trim_start_matches(SPACE).strip_prefix('[') {
            self.error(number, None, None, mistake.to_string());
            self.guess_header(rest, number);
            return;
        }
        self.error(number, self.open_section(), None, mistake.to_string());
        match (self.current, self.document.sections.last_mut()) {
            (Current::Open, Some(section)) => section.uncertain = true,
            (Current::BeforeAny | Current::Open | Current::Refused, _) => {
                self.document.uncertain = true;
            }
        }
    }

    /// Continues with the section that a broken header seems to open, to find errors in its keys.
    fn guess_header(&mut self, rest: &str, number: u32) {
        let name = rest.split(']').next().unwrap_or(rest).trim();
        self.keys.clear();
        if name.is_empty() || self.first_lines.contains_key(&self.names.folded(name)) {
            self.document.uncertain = true;
            self.current = Current::Refused;
        } else {
            self.open(name, number, Header::Broken);
        }
    }

    fn header(&mut self, name: &str, number: u32) -> bool {
        self.keys.clear();
        if let Some(first) = self.first_lines.get(&self.names.folded(name)) {
            let message = format!("duplicate section, first defined on line {first}");
            self.error(number, Some(name.to_owned()), None, message);
            self.current = Current::Refused;
            return false;
        }
        self.open(name, number, Header::Good);
        true
    }

    fn open(&mut self, name: &str, line: u32, header: Header) {
        self.first_lines.insert(self.names.folded(name), line);
        self.current = Current::Open;
        self.document.sections.push(Section {
            name: name.to_owned(),
            line,
            entries: Vec::new(),
            uncertain: header == Header::Broken,
            name_is_guessed: header == Header::Broken,
        });
    }

    fn entry(&mut self, key: &str, value: &str, number: u32) -> bool {
        if let Current::BeforeAny = self.current {
            let message = "the key is outside of any `[section]`".to_owned();
            self.error(number, None, Some(key.to_owned()), message);
            self.document.uncertain = true;
            return false;
        }
        let canonical = canonical(key);
        match self.keys.entry(canonical.clone()) {
            hash_map::Entry::Vacant(vacant) => vacant.insert(number),
            hash_map::Entry::Occupied(first) => {
                let message = format!("duplicate key, first defined on line {}", first.get());
                self.error(number, self.open_section(), Some(key.to_owned()), message);
                return false;
            }
        };
        match (self.current, self.document.sections.last_mut()) {
            (Current::Open, Some(section)) => {
                section.entries.push(KeyValue {
                    key: key.to_owned(),
                    canonical,
                    line: number,
                    value: value.to_owned(),
                });
                !section.name_is_guessed
            }
            (Current::BeforeAny | Current::Open | Current::Refused, _) => false,
        }
    }

    fn open_section(&self) -> Option<String> {
        match self.current {
            Current::Open => Some(self.document.sections.last()?.name.clone()),
            Current::BeforeAny | Current::Refused => None,
        }
    }

    fn error(
        &mut self,
        line: u32,
        section: Option<String>,
        key: Option<String>,
        message: impl Into<String>,
    ) {
        let location =
            Location { file: Arc::clone(&self.document.file), line: Some(line), section, key };
        self.diagnostics.push(Diagnostic::error(location, message));
    }

    /// Lets rust-ini parse the same lines, and compares the results.
    fn cross_check(&mut self) {
        if let Err(line) = compare(&self.document.sections, &self.handed_over) {
            let message = "the line is ambiguous: INI parsers read it in different ways";
            self.error(line, None, None, message);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Good,
    /// The header was reported as broken. Its name is a guess.
    Broken,
}

/// Compares rust-ini's reading of `text` with `sections`. The error is the first line that differs.
fn compare(sections: &[Section], text: &str) -> Result<(), u32> {
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: false,
        enabled_preserve_key_leading_whitespace: false,
    };
    let ini = Ini::load_from_str_opt(text, options)
        .map_err(|error| u32::try_from(error.line).unwrap_or(u32::MAX))?;
    let mut theirs = ini.iter().flat_map(|(section, properties)| {
        let section_line = section.map(|name| (name, "", ""));
        let section = section.unwrap_or_default();
        let entries = properties.iter().map(move |(key, value)| (section, key, value));
        section_line.into_iter().chain(entries)
    });
    let mut last = 1;
    for section in sections.iter().filter(|section| !section.name_is_guessed) {
        let header = (section.line, "", "");
        let entries = section
            .entries
            .iter()
            .map(|entry| (entry.line, entry.key.as_str(), entry.value.as_str()));
        for (line, key, value) in std::iter::once(header).chain(entries) {
            if theirs.next() != Some((section.name.as_str(), key, value)) {
                return Err(line);
            }
            last = line;
        }
    }
    theirs.next().map_or(Ok(()), |_| Err(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> (Document, Diagnostics) {
        let mut diagnostics = Diagnostics::default();
        let file = Arc::new(PathBuf::from("x.ini"));
        let document = parse(&file, text, SectionNames::ByteForByte, &mut diagnostics);
        (document, diagnostics)
    }

    fn only_value(text: &str) -> String {
        let (document, diagnostics) = document(&format!("[s]\nk = {text}\nnext = 1\n"));
        assert_eq!(diagnostics, Diagnostics::default());
        assert_eq!(document.sections[0].entries.len(), 2);
        document.sections[0].entries[0].value().to_owned()
    }

    #[test]
    fn values_are_literal_except_for_one_pair_of_quotes() {
        for (text, value) in [
            (r"C:\new", r"C:\new"),
            (r"C:\folder\", r"C:\folder\"),
            (r"/m\x000d\x000aX: y", r"/m\x000d\x000aX: y"),
            (r"\0", r"\0"),
            ("a=b", "a=b"),
            ("[x]", "[x]"),
            ("a ; b # c", "a ; b # c"),
            ("\"a b\"", "a b"),
            ("\" a \"", " a "),
            ("\"\"", ""),
            ("\"a\" \"b\"", "\"a\" \"b\""),
            ("\"", "\""),
            ("'a'", "'a'"),
            ("", ""),
        ] {
            assert_eq!(only_value(text), value, "{text}");
        }
    }

    #[test]
    fn a_broken_header_opens_a_section_only_if_it_has_a_name_of_its_own() {
        for (text, sections) in
            [("[a]\nk = 1\n[b\n", 2), ("[a]\nk = 1\n[a\n", 1), ("[\nk = 1\n", 0)]
        {
            let (document, diagnostics) = document(text);
            assert_eq!(document.sections.len(), sections, "{text}");
            assert_eq!(document.uncertain, sections < 2, "{text}");
            assert!(diagnostics.has_errors());
        }
    }

    #[test]
    fn a_line_that_rust_ini_reads_differently_is_an_error() {
        let (document, _) = document("[s]\nk = 1\n");
        assert_eq!(compare(&document.sections, "[s]\r\nk = 1\r\n"), Ok(()));
        assert_eq!(compare(&document.sections, "[s]\r\nk = 2\r\n"), Err(2));
        assert_eq!(compare(&document.sections, "[t]\r\nk = 1\r\n"), Err(1));
        assert_eq!(compare(&document.sections, "[s]\r\nk = 1\r\nl = 2\r\n"), Err(2));
        assert_eq!(compare(&document.sections, "[s]\r\n"), Err(2));
    }
}
