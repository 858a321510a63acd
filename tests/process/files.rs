//! Wrong kinds of files in place of each file that the configuration names (cases C01, C02, C30).

use std::{fs, time::Instant};

use scrapegate_harness::{PATIENCE, odd_file::OddFile};

use crate::{Ended, Files, line_of, set_mode};

/// Each file is named after the key that refers to it.
const CONFIG: &str = "\
[default]
certfile = certfile
keyfile = keyfile
[proxy]
client-ca = client-ca
client-crl = client-crl
";
const EXPORTERS: &str = "\
[https]
enabled = yes
method = https
port = 1
path = /metrics
ca-file = ca-file
cert-file = cert-file
key-file = key-file
username = user
password-file = password-file
[token]
enabled = yes
port = 1
path = /metrics
bearer-token-file = bearer-token-file
";

const IN_CONFIG: [&str; 4] = ["certfile", "keyfile", "client-ca", "client-crl"];
const IN_EXPORTERS: [&str; 5] =
    ["ca-file", "cert-file", "key-file", "password-file", "bearer-token-file"];

/// The files that contain a secret.
const SECRETS: [&str; 4] = ["keyfile", "key-file", "password-file", "bearer-token-file"];

/// Asserts that each of `keys` has a finding with `words`.
#[track_caller]
fn assert_found(ended: &Ended, keys: &[&str], words: &str) {
    assert_eq!(ended.code, Some(1), "{:#?}", ended.out);
    for key in keys {
        let (file, text) = if IN_CONFIG.contains(key) {
            ("config.ini", CONFIG)
        } else {
            ("prometheus_exporters.ini", EXPORTERS)
        };
        let place = format!("{file}:{}: ", line_of(text, &format!("{key} =")));
        let found = ended.out.iter().filter(|line| line.contains(&place));
        let is_right = |line: &&String| line.contains(key) && line.contains(words);
        assert_eq!(found.filter(is_right).count(), 1, "{place}{words} in {:#?}", ended.out);
    }
}

/// C01: any kind of file.
#[test]
fn anything_that_is_not_a_file_is_an_error_at_each_key_that_names_it_and_nothing_hangs() {
    let files = Files::new(CONFIG, EXPORTERS);
    let all = [&IN_CONFIG[..], &IN_EXPORTERS].concat();
    for kind in OddFile::ALL {
        for name in &all {
            kind.put(&files.path(name));
        }
        let begun = Instant::now();
        assert_found(&files.check(), &all, kind.words());
        let ran = files.run();
        assert_eq!(ran.code, Some(78), "{kind:?}: {:#?}", ran.err);
        assert!(begun.elapsed() < PATIENCE / 2, "{kind:?}: {:?}", begun.elapsed());
    }
}

/// C01: the two INI files.
#[test]
fn anything_that_is_not_a_file_is_an_error_in_place_of_either_ini_file() {
    for name in ["config.ini", "prometheus_exporters.ini"] {
        for kind in OddFile::ALL {
            let files = Files::new(CONFIG, EXPORTERS);
            kind.put(&files.path(name));
            files.assert_mistake(&[name, kind.words()]);
        }
    }
}

/// C02: the finding has the path and the reason.
#[test]
fn an_unreadable_file_is_an_error_with_its_path() {
    let files = Files::new(CONFIG, EXPORTERS);
    let all = [&IN_CONFIG[..], &IN_EXPORTERS].concat();
    for name in &all {
        files.write(name, "");
        set_mode(&files.path(name), 0o000);
    }
    assert_found(&files.run_as_nobody(&["check"]), &all, "cannot be read: Permission denied");
    let ended = files.run_as_nobody(&["check"]);
    for name in &all {
        let path = files.path(name).display().to_string();
        assert!(ended.out.iter().any(|line| line.contains(&path)), "{path} in {:#?}", ended.out);
    }
    for name in ["prometheus_exporters.ini", "config.ini"] {
        set_mode(&files.path(name), 0o000);
        let ended = files.run_as_nobody(&["check"]);
        let place =
            format!("{}: error: cannot be read: Permission denied", files.path(name).display());
        let found = ended.out.iter().any(|line| line.starts_with(&place));
        assert!(ended.code == Some(1) && found, "{place} in {:#?}", ended.out);
    }
}

/// C02: a folder on the path may not be searched.
#[test]
fn a_file_in_an_unsearchable_folder_is_an_error_with_its_path() {
    let inner = |text: &str, names: &[&str]| {
        names.iter().fold(text.to_owned(), |text, name| {
            text.replace(&format!("= {name}\n"), &format!("= inner/{name}\n"))
        })
    };
    let files = Files::new(&inner(CONFIG, &IN_CONFIG), &inner(EXPORTERS, &IN_EXPORTERS));
    fs::create_dir(files.path("inner")).expect("a folder");
    set_mode(&files.path("inner"), 0o000);
    let all = [&IN_CONFIG[..], &IN_EXPORTERS].concat();
    let ended = files.run_as_nobody(&["check"]);
    set_mode(&files.path("inner"), 0o700);
    assert_found(&ended, &all, "cannot be read: Permission denied");
}

/// C30: a group may read secrets.
#[test]
fn every_kind_of_world_readable_secret_is_an_error() {
    let files = Files::new(CONFIG, EXPORTERS);
    let with_mode = |mode| {
        for name in SECRETS {
            files.write(name, "open sesame\n");
            set_mode(&files.path(name), mode);
        }
        files.check()
    };
    for mode in [0o644, 0o604, 0o666, 0o777] {
        assert_found(&with_mode(mode), &SECRETS, "can be read by everyone");
    }
    let ended = with_mode(0o640);
    assert!(!ended.out.iter().any(|line| line.contains("everyone")), "{:#?}", ended.out);
    // No finding quotes the contents of the files.
    assert!(!ended.out.iter().any(|line| line.contains("sesame")), "{:#?}", ended.out);
}
