//! Every `*.good.ini` and `*.bad.ini` with its exact findings in `*.expected`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{fixtures_folder, load_files, rendered};

/// Checks all fixtures of `folder`; `load` makes two files of one.
fn check(folder: &str, load: impl Fn(&Path) -> (bool, String)) {
    let mut checked = [0, 0];
    let mut failures = String::new();
    for file in files(&fixtures_folder().join(folder)) {
        let name = file.to_string_lossy();
        let good = name.ends_with(".good.ini");
        if !good && !name.ends_with(".bad.ini") {
            assert!(name.ends_with(".expected"), "{name} is no fixture");
            continue;
        }
        checked[usize::from(good)] += 1;
        let expected = fs::read_to_string(file.with_extension("expected"));
        // A good file may do without: it has no warnings then.
        let expected = if good {
            expected.unwrap_or_default()
        } else {
            expected.unwrap_or_else(|error| panic!("expectation of {name}: {error}"))
        };
        let (loaded, findings) = load(&file);
        if loaded != good || findings != expected {
            failures += &format!("--- {name}\nexpected:\n{expected}found:\n{findings}\n");
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
fn each_config_ini_has_exactly_its_findings() {
    let exporters = fixtures_folder().join("exporters/minimal.good.ini");
    check("daemon", |config| {
        let (config, findings) = load_files(config, Some(&exporters));
        (config.is_some(), rendered(&findings))
    });
}

#[test]
fn each_exporters_file_has_exactly_its_findings() {
    let config = fixtures_folder().join("daemon/minimal.good.ini");
    check("exporters", |exporters| {
        let (config, findings) = load_files(&config, Some(exporters));
        (config.is_some(), rendered(&findings))
    });
}
