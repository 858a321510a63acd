//! Each `*.good.ini` and `*.bad.ini` has exactly the diagnostics in its `*.expected` file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{fixtures_folder, load_files, rendered};

/// Checks all fixtures of `folder`. `load` creates both files from one fixture and loads them.
fn check(folder: &str, load: impl Fn(&Path) -> (bool, String)) {
    let mut checked = [0, 0];
    let mut failures = String::new();
    for file in files(&fixtures_folder().join(folder)) {
        let name = file.to_string_lossy();
        let good = name.ends_with(".good.ini");
        if !good && !name.ends_with(".bad.ini") {
            assert!(name.ends_with(".expected"), "{name} is not a fixture");
            continue;
        }
        checked[usize::from(good)] += 1;
        let expected = fs::read_to_string(file.with_extension("expected"));
        // A good fixture may have no `*.expected` file. It must then have no warnings.
        let expected = if good {
            expected.unwrap_or_default()
        } else {
            expected.unwrap_or_else(|error| panic!("expectation of {name}: {error}"))
        };
        let (loaded, diagnostics) = load(&file);
        if loaded != good || diagnostics != expected {
            failures += &format!("--- {name}\nexpected:\n{expected}found:\n{diagnostics}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(checked.iter().all(|&number| number > 0), "{checked:?}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("its entries are, too").path()).collect();
    files.sort();
    files
}

#[test]
fn each_config_ini_fixture_has_exactly_its_findings() {
    let exporters = fixtures_folder().join("exporters/minimal.good.ini");
    check("daemon", |config| {
        let (config, diagnostics) = load_files(config, Some(&exporters));
        (config.is_some(), rendered(&diagnostics))
    });
}

#[test]
fn each_exporters_fixture_has_exactly_its_findings() {
    let config = fixtures_folder().join("daemon/minimal.good.ini");
    check("exporters", |exporters| {
        let (config, diagnostics) = load_files(&config, Some(exporters));
        (config.is_some(), rendered(&diagnostics))
    });
}
