//! Each case in `docs/development/cases.md` has a test that names it, and each case that a test
//! names is on that page.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The first letters of the identifiers on the page, one for each section.
const SECTIONS: &str = "THUDCPF";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The identifiers in `line`, in upper case: a letter of [`SECTIONS`] and two digits. A lower-case
/// identifier counts only at the start of a function name, as in `fn u22_a_million_chunks`.
fn identifiers(line: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Some(name) = line.trim_start().trim_start_matches("async ").strip_prefix("fn ") {
        found.extend(
            name.split('_').take_while(|word| is_identifier(word)).map(str::to_ascii_uppercase),
        );
    } else {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric());
        found.extend(words.filter(|word| is_identifier(word)).map(str::to_owned));
        found.retain(|word| word.starts_with(|first: char| first.is_ascii_uppercase()));
    }
    found
}

fn is_identifier(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 3
        && SECTIONS.contains(char::from(bytes[0].to_ascii_uppercase()))
        && bytes[1..].iter().all(u8::is_ascii_digit)
}

/// The identifiers that tests name, each with one of the files that name it. Unit tests are in
/// `src`.
fn named_in_tests() -> BTreeMap<String, PathBuf> {
    let mut files = Vec::new();
    sources(&repository("tests"), &mut files);
    sources(&repository("src"), &mut files);
    files.retain(|file| !file.ends_with("tests/cases.rs"));
    let mut named = BTreeMap::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        for line in source.lines() {
            // Outside comments and function names, such a sequence of characters may be data.
            let counts = line.contains("//") || line.contains("fn ");
            named.extend(
                identifiers(line).into_iter().filter(|_| counts).map(|id| (id, file.clone())),
            );
        }
    }
    named
}

/// The identifiers that have a row on the page.
fn listed() -> BTreeSet<String> {
    let page = fs::read_to_string(repository("docs/development/cases.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells: Vec<_> = rows
        .filter_map(|row| row.split(" |").next())
        .filter(|cell| is_identifier(cell))
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<_> = cells.iter().cloned().collect();
    assert_eq!(cells.len(), listed.len(), "a case has two rows");
    listed
}

#[test]
fn every_case_on_the_page_has_a_test() {
    let (listed, named) = (listed(), named_in_tests());
    assert!(listed.len() > 160, "{} cases", listed.len());
    let missing: Vec<_> = listed.iter().filter(|id| !named.contains_key(*id)).collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}

#[test]
fn every_case_that_a_test_names_is_on_the_page() {
    let listed = listed();
    let named = named_in_tests();
    let unknown: Vec<_> = named.iter().filter(|(id, _)| !listed.contains(*id)).collect();
    assert!(unknown.is_empty(), "docs/development/cases.md has no {unknown:?}");
}
