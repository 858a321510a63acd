//! Commands in the documents. bash parses and runs them; each program is replaced by a stub that
//! records its arguments.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use clap::error::ErrorKind;
use scrapegate_harness::documents::{Block, documents, manifest, root};

/// Records the number of words and then the words, each followed by a zero byte.
const PRELUDE: &str = r#"
note() { builtin printf '%s\0' "$#" "$@" >> "$CALLS"; }
command_not_found_handle() { note "$@"; }
sudo() { note sudo; "$@"; }
for program in echo kill printf scrapegate; do
    eval "$program() { note $program \"\$@\"; }"
done
PATH=/nowhere
"#;

/// Programs that the documents call by a path, and the names under which they are recorded. bash
/// calls no function for a path, so these programs have to be files.
const BY_PATH: [(&str, &str); 3] = [
    (".ci/run", ".ci/run"),
    ("packaging/deb", "packaging/deb"),
    ("new/usr/bin/scrapegate", "scrapegate"),
];

/// The programs that the documents call. The list is explicit, so that a typo in a document is not
/// taken for a program. Add each further program here.
const PROGRAMS: &[&str] = &[
    ".ci/run",
    "ansible-playbook",
    "apt",
    "apt-get",
    "cargo",
    "chgrp",
    "chmod",
    "cp",
    "curl",
    "dpkg-deb",
    "echo",
    "install",
    "jq",
    "kubectl",
    "llvm-cov-N",
    "llvm-profdata-N",
    "nproc",
    "openssl",
    "packaging/deb",
    "podman",
    "printf",
    "promtool",
    "rm",
    "scrapegate",
    "sed",
    "sha256sum",
    "strip",
    "sudo",
    "systemctl",
    "tail",
    "tee",
    "useradd",
    "userdel",
];

/// The commands of a script.
pub(crate) fn read_script(block: &Block) {
    for call in calls(block, &block.text) {
        check(block, &call);
    }
}

/// The commands of a terminal session: those after `$ `, with their continuation lines.
pub(crate) fn read_session(block: &Block) {
    let mut script = String::new();
    let mut is_continued = false;
    for line in block.text.lines() {
        let command = line.strip_prefix("$ ").or_else(|| is_continued.then_some(line));
        if let Some(command) = command {
            script += &format!("{command}\n");
            is_continued = command.ends_with('\\');
        }
    }
    assert!(!script.is_empty(), "{block}: no command after `$ `");
    for call in calls(block, &script) {
        check(block, &call);
    }
}

/// The calls that the script makes, each with its arguments.
fn calls(block: &Block, script: &str) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = folder.path().join("calls");
    fs::write(&written, "").expect("written");
    for (path, name) in BY_PATH {
        put_program(&folder.path().join(path), name);
    }
    let bash = |arguments: &[&str]| {
        let output = Command::new("bash")
            .args(arguments)
            .env("CALLS", &written)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{block}: {said}\n{script}");
    };
    bash(&["-n", "-c", script]);
    bash(&["-c", &format!("{PRELUDE}{script}")]);
    let noted = fs::read_to_string(&written).expect("UTF-8");
    let mut words = noted.split_terminator('\0').map(str::to_owned);
    let mut calls = Vec::new();
    while let Some(number) = words.next() {
        let number = number.parse().expect("how many there are");
        calls.push(words.by_ref().take(number).collect());
    }
    assert!(!calls.is_empty(), "{block}: no program is called\n{script}");
    calls
}

/// Makes a program that records its calls as `note` does.
fn put_program(file: &Path, name: &str) {
    let script = format!("#!/bin/sh\nprintf '%s\\0' $(($# + 1)) {name} \"$@\" >> \"$CALLS\"\n");
    fs::create_dir_all(file.parent().expect("a folder")).expect("created");
    fs::write(file, script).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
}

fn check(block: &Block, call: &[String]) {
    let words: Vec<&str> = call.iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first().expect("a program");
    assert!(PROGRAMS.contains(program), "{block}: unknown program in {words:?}");
    match (*program, arguments) {
        ("scrapegate", _) => assert_parses(block, &words),
        ("cargo", ["run", "--release", "--", own @ ..]) => {
            assert_parses(block, &[&["scrapegate"], own].concat());
        }
        ("cargo", _) => check_targets(block, arguments),
        (".ci/run", _) => check_step(block, arguments),
        _ => {}
    }
}

#[track_caller]
fn assert_parses(block: &Block, words: &[&str]) {
    if let Err(error) = scrapegate::cli::command().try_get_matches_from(words) {
        panic!("{block}: {words:?}: {error}");
    }
}

/// Asserts that the targets of `--test` and `--bench` exist.
fn check_targets(place: impl std::fmt::Display, arguments: &[&str]) {
    let manifest = manifest();
    for pair in arguments.windows(2) {
        let [option, name] = pair else { continue };
        let is_there = match *option {
            "--test" => ["", "/main"]
                .iter()
                .any(|suffix| root().join(format!("tests/{name}{suffix}.rs")).exists()),
            "--bench" => manifest.contains(&format!("[[bench]]\nname = \"{name}\"\n")),
            _ => true,
        };
        assert!(is_there, "{place}: no {option} {name}");
    }
}

/// Asserts that the first argument of `.ci/run` is a step, unless it is a placeholder such as STEP.
fn check_step(place: impl std::fmt::Display, arguments: &[&str]) {
    // The packed crate has no `.ci`.
    let Ok(script) = fs::read_to_string(root().join(".ci/run")) else { return };
    let Some(step) = arguments.first().filter(|step| step.bytes().all(|b| b.is_ascii_lowercase()))
    else {
        return;
    };
    let case = format!(" {step}) ");
    let is_step = script.lines().any(|line| format!("{line} ").contains(&case));
    assert!(is_step, "{place}: .ci/run has no step {step}");
}

/// Inline code: the text between backticks outside fenced blocks.
fn spans() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (document, text) in documents() {
        let mut is_inside = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_inside = !is_inside;
            } else if !is_inside {
                let code = line.split('`').skip(1).step_by(2);
                found.extend(code.map(|code| (document.clone(), code.to_owned())));
            }
        }
    }
    found
}

#[test]
fn every_command_in_the_text_exists() {
    let (mut own, mut cargo) = (0, 0);
    for (document, code) in spans() {
        let command = code.split(['>', '|']).next().unwrap_or_default();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["scrapegate", _, ..] => {
                own += 1;
                // Placeholders such as NAME and SHELL stand for any value. Required arguments may
                // be omitted.
                let is_placeholder = words
                    .iter()
                    .any(|word| word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase()));
                let parsed = scrapegate::cli::command().try_get_matches_from(&words);
                if let Err(error) = parsed {
                    let is_incomplete = matches!(
                        error.kind(),
                        ErrorKind::MissingRequiredArgument
                            | ErrorKind::DisplayHelp
                            | ErrorKind::DisplayVersion
                    );
                    let is_of_value = matches!(
                        error.kind(),
                        ErrorKind::InvalidValue | ErrorKind::ValueValidation
                    );
                    let is_fine = is_incomplete || is_of_value && is_placeholder;
                    assert!(is_fine, "{document}: `{code}`: {error}");
                }
            }
            [".ci/run", ref arguments @ ..] => check_step(&document, arguments),
            ["cargo", ref arguments @ ..] if !arguments.is_empty() => {
                cargo += 1;
                check_targets(&document, arguments);
            }
            _ => {}
        }
    }
    assert!(own > 10 && cargo > 8, "only {own} scrapegate and {cargo} cargo commands were found");
}
