//! A campaign over a crate of a few lines.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    groups::Group,
    mutant::Mutant,
    program::{self, UNIT_TESTS},
    suite::{Effort, Suite, Verdict},
    switch,
    tree::{Build, Tree, number},
};

const SOURCE: &str = "\
pub const LIMIT: i32 = 40 + 2;
pub fn is_below(a: i32) -> bool { a < LIMIT }
pub fn twice(a: i32) -> i32 { a * 2 }
#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_compared() { assert!(crate::is_below(0)); assert!(!crate::is_below(50)); }
    #[test]
    #[ignore = \"always fails\"]
    fn ignored() { assert_eq!(5, crate::twice(2)); }
}
";

const GROUP: Group =
    Group { name: "all", files: &["src/*.rs"], unit_tests: &["tests::"], programs: &[] };

/// The mutant that changes `code`, which is at first in a line of its own.
fn mutant(genre: &str, code: &str, replacement: &str) -> Mutant {
    let (line, text) = (1..)
        .zip(SOURCE.lines())
        .find(|(_, line)| line.contains(code))
        .expect("a line with the code");
    let start = text.find(code).expect("the code") + 1;
    let mutant = json!({
        "name": format!("{code} {replacement}"),
        "file": "src/lib.rs",
        "genre": genre,
        "replacement": replacement,
        "span": {
            "start": { "line": line, "column": start },
            "end": { "line": line, "column": start + code.len() },
        },
    });
    serde_json::from_value(mutant).expect("a mutant")
}

fn write_crate(root: &Path) {
    let manifest = "[package]\nname = \"small\"\nedition = \"2024\"\n[workspace]\n";
    fs::create_dir(root.join("src")).expect("a folder");
    fs::write(root.join("Cargo.toml"), manifest).expect("a manifest");
    fs::write(root.join("src/lib.rs"), SOURCE).expect("a source");
}

#[test]
fn each_mutant_gets_the_verdict_of_the_tests_that_reach_it() {
    let mutants = [
        mutant("BinaryOperator", "<", ">"),
        mutant("BinaryOperator", "<", "<="),
        mutant("FnValue", "a < LIMIT", "no_such_function()"),
        mutant("FnValue", "a < LIMIT", "1"),
        mutant("FnValue", "a * 2", "0"),
        mutant("BinaryOperator", "+", "*"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    write_crate(folder.path());
    let tree = Tree::new(folder.path().to_owned(), &mutants).expect("the sources");

    let builds = tree.switch_all(&mutants).expect("the rest compiles");
    use Build::{Alone, Shared, Unviable};
    assert_eq!([Shared, Shared, Unviable, Unviable, Shared, Alone].as_slice(), builds);

    let suite = || {
        let programs = program::build(folder.path(), &[UNIT_TESTS]).expect("cargo runs");
        Suite::new(programs.expect("the tests compile")).expect("a list of tests")
    };
    let mut shared = suite();
    shared.record(Effort::Fast, 2).expect("all tests pass");
    let verdict = |index| shared.test(&GROUP, number(index), Effort::Fast).expect("a verdict");
    let caught = Verdict::Caught("lib: tests::numbers_are_compared".to_owned());
    assert_eq!(caught, verdict(0));
    assert_eq!(Verdict::Survived, verdict(1));
    assert_eq!(Verdict::Unreached, verdict(4));

    tree.apply(&mutants[5]).expect("written");
    assert_eq!(caught, suite().test_build(&GROUP).expect("a verdict"));

    tree.restore().expect("written");
    assert_eq!(SOURCE, fs::read_to_string(folder.path().join("src/lib.rs")).expect("a source"));
}

#[test]
fn without_the_variable_no_mutant_is_active() {
    assert!(!switch::is(1));
    assert_eq!(0, switch::active(&[1, 2]));
}
