//! Imports point one way: a module uses only modules of lower layers.

use std::{collections::HashMap, fs, path::Path};

/// Lowest layer first. Modules of the same layer do not import each other.
const LAYERS: [&[&str]; 13] = [
    &[
        "blocking",
        "deadline",
        "exposition",
        "fair",
        "file",
        "ledger",
        "pem",
        "pki",
        "shutdown",
        "trigger",
        "workers",
    ],
    &["error", "exporter"],
    &["discovery", "metrics", "peer"],
    &["access", "answers", "page", "route", "scrape", "upstream"],
    &["activity"],
    &["relay"],
    &["accept", "connection", "respond", "tls"],
    &["enrol"],
    &["config", "handler"],
    &["assets", "server", "telemetry"],
    &["systemd"],
    &["reload"],
    &["cli"],
];

/// Imports within one layer that are intended.
const SIDEWAYS: [(&str, &str); 1] = [("server", "assets")];

/// Each `crate::module` in the code of a file.
fn modules_used(source: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut used = Vec::new();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut braced = 0_usize;
    for line in code {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("crate::") {
            rest = after;
            if let Some(inside) = after.strip_prefix('{') {
                braced = 1;
                rest = inside;
                break;
            }
            used.push(after.split(|c| !is_name(c)).next().unwrap_or_default());
        }
        if braced == 0 {
            continue;
        }
        // Inside `use crate::{…}`, a name at the first level is a module.
        for (at, c) in rest.char_indices() {
            match c {
                '{' => braced += 1,
                '}' => braced = braced.saturating_sub(1),
                _ if braced == 1 && is_name(c) => {
                    let before = rest[..at].chars().next_back();
                    if before.is_none_or(|before| " ,{".contains(before)) {
                        used.push(rest[at..].split(|c| !is_name(c)).next().unwrap_or_default());
                    }
                }
                _ => {}
            }
        }
    }
    used
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let inside = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
            let inside = inside.expect("below src").to_str().expect("UTF-8");
            let module = inside.split(['/', '.']).next().unwrap_or_default();
            let source = fs::read_to_string(&path).expect("a source file");
            found.push((module.to_owned(), source));
        }
    }
}

#[test]
fn imports_point_one_way() {
    let layer_of: HashMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 40, "only {} files", found.len());

    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, source) in found.iter().filter(|(module, _)| module != "lib" && module != "main") {
        let Some(own) = layer_of.get(module.as_str()) else {
            wrong.push(format!("{module} has no layer"));
            continue;
        };
        for used in modules_used(source) {
            seen += 1;
            let known = layer_of.get(used);
            let sideways = SIDEWAYS.contains(&(module, used));
            if used != module && !sideways && known.is_none_or(|layer| layer >= own) {
                wrong.push(format!("{module} uses {used}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} imports were found");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
