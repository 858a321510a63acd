//! Imports point one way: each room of the crate uses only the rooms below it.

use std::{fs, path::Path};

/// The rooms of the crate, from the entry point down. A room imports only rooms below it.
const ROOMS: [&str; 9] = [
    "cli",        // arguments, and one file for each subcommand
    "service",    // the process: bind, run, reload, shut down
    "downstream", // the scraper's side of a connection
    "http",       // one request
    "scrape",     // one scrape
    "upstream",   // the exporter's side
    "tls",        // certificates and trust
    "config",     // INI text to typed values
    "common",     // what all rooms share
];

/// Imports that still point up.
const INVERSIONS: [(&str, &str); 2] = [("http", "downstream"), ("scrape", "downstream")];

/// Each `crate::room` in the code of a file.
fn rooms_used(source: &str) -> Vec<&str> {
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
        // Inside `use crate::{…}`, a name at the first level is a room.
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
            let room = inside.split(['/', '.']).next().unwrap_or_default();
            let source = fs::read_to_string(&path).expect("a source file");
            found.push((room.to_owned(), source));
        }
    }
}

#[test]
fn imports_point_one_way() {
    let level = |room: &str| ROOMS.iter().position(|it| *it == room);
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 40, "only {} files", found.len());

    let mut wrong = Vec::new();
    let mut seen = 0;
    for (room, source) in found.iter().filter(|(room, _)| room != "lib" && room != "main") {
        let Some(own) = level(room) else {
            wrong.push(format!("{room} is no room"));
            continue;
        };
        for used in rooms_used(source) {
            seen += 1;
            let points_down = level(used).is_some_and(|it| it >= own);
            if !points_down && !INVERSIONS.contains(&(room, used)) {
                wrong.push(format!("{room} uses {used}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} imports were found");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
