//! `docs/development/waits.md` names each file of the crate that can wait, and no other.

use std::{collections::BTreeSet, fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The calls by which code waits for a future, a thread, the clock or the file system.
const WAITS: [&str; 18] = [
    "spawn_blocking",
    "thread::Builder",
    "thread::sleep",
    ".wait_while(",
    ".wait_timeout_while(",
    "block_on(",
    "fs::metadata",
    "fs::read",
    "fs::write",
    "File::o",
    "symlink_metadata",
    "remove_file",
    "procfs::",
    "to_socket_addrs",
    ".join()",
    ".recv_timeout(",
    "sync_all",
    "sleep_until(",
];

fn awaits(line: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.split(".await").skip(1).any(|rest| !rest.starts_with(word))
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let name = path.strip_prefix(ROOT).expect("below the root");
            found.push(name.to_str().expect("UTF-8").to_owned());
        }
    }
}

/// Whether the code of a file waits. Comments and tests do not count.
fn waits(source: &str) -> bool {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(all(test, unix))]\nmod tests {"];
    let end = tests.iter().filter_map(|start| source.find(start)).min();
    let code = &source[..end.unwrap_or(source.len())];
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| awaits(line) || WAITS.iter().any(|wait| line.contains(wait)))
}

#[test]
fn the_page_lists_exactly_the_files_that_wait() {
    let page =
        fs::read_to_string(Path::new(ROOT).join("docs/development/waits.md")).expect("the page");
    let named: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/")?.split('`').next())
        .map(|file| format!("src/{file}"))
        .collect();
    let mut all = Vec::new();
    sources(&Path::new(ROOT).join("src"), &mut all);
    assert!(all.len() > 80, "only {} files", all.len());
    let waiting: BTreeSet<String> = all
        .into_iter()
        .filter(|file| !file.ends_with("tests.rs"))
        .filter(|file| waits(&fs::read_to_string(Path::new(ROOT).join(file)).expect("a source")))
        .collect();
    assert_eq!(named, waiting, "left: the page, right: the code");
}

#[test]
fn comments_and_tests_do_not_count_as_waiting() {
    assert!(waits("fn f() {\n    g().await;\n}"));
    assert!(!waits("let x = self.awaited;"));
    assert!(!waits("// g().await\n#[cfg(test)]\nmod tests {\n    g().await;\n}"));
}
