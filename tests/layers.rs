//! Imports point one way: each room of the crate uses only the rooms below it, and no two files
//! import each other, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

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

/// A path of names, such as `["scrape", "body"]` for `crate::scrape::body`.
type Names = Vec<String>;

/// The modules of the crate except its root, each with the text of its file.
fn modules(folder: &Path, names: &[String], found: &mut BTreeMap<Names, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let mut names = names.to_vec();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
        if path.is_dir() {
            names.push(stem.to_owned());
            modules(&path, &names, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            if stem != "mod" {
                names.push(stem.to_owned());
            }
            let source = fs::read_to_string(&path).expect("a source file");
            let previous = found.insert(names, source);
            assert!(previous.is_none(), "{} has two files", path.display());
        }
    }
}

/// The words and signs of a file, without comments, strings and the tests at its end.
fn tokens(source: &str) -> Vec<&str> {
    let end = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
    let mut tokens = Vec::new();
    for line in source[..end].lines() {
        let code = line.split("//").next().unwrap_or_default();
        let code = code.split('"').step_by(2);
        for mut rest in code {
            while let Some(first) = rest.chars().next() {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let length = match rest.find(|c| !is_word(c)) {
                    _ if rest.starts_with("::") => 2,
                    Some(0) => first.len_utf8(),
                    Some(length) => length,
                    None => rest.len(),
                };
                if !first.is_whitespace() {
                    tokens.push(&rest[..length]);
                }
                rest = &rest[length..];
            }
        }
    }
    tokens
}

/// Reads the path or the tree of paths at the start of `tokens`, and returns the rest.
fn paths<'a>(
    mut tokens: &'a [&'a str],
    begin: &[&'a str],
    found: &mut Vec<Names>,
) -> &'a [&'a str] {
    let mut path = begin.to_vec();
    loop {
        match tokens {
            ["{", rest @ ..] => {
                tokens = rest;
                while !matches!(tokens, ["}", ..] | []) {
                    tokens = paths(tokens, &path, found);
                    if let [",", rest @ ..] = tokens {
                        tokens = rest;
                    }
                }
                return tokens.get(1..).unwrap_or_default();
            }
            ["as", _, rest @ ..] => tokens = rest,
            ["::", rest @ ..] => tokens = rest,
            [name, rest @ ..] if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                // A second word without `::` between belongs to other code.
                path.push(name);
                tokens = rest;
                if !matches!(tokens, ["::" | "as", ..]) {
                    break;
                }
            }
            _ => break,
        }
    }
    found.push(path.iter().map(|&name| name.to_owned()).collect());
    tokens
}

/// The modules that `own` uses: the module of each path in its text.
fn uses(own: &[String], source: &str, all: &BTreeMap<Names, String>) -> BTreeSet<Names> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let is_child = |name: &str| all.contains_key(&[own, &[name.to_owned()]].concat());
    for at in 0..tokens.len() {
        let begins = match tokens[at] {
            "crate" | "super" | "self" => tokens.get(at + 1) == Some(&"::"),
            name => tokens.get(at + 1) == Some(&"::") && is_child(name),
        };
        let continues = at > 0 && tokens[at - 1] == "::";
        if begins && !continues {
            paths(&tokens[at..], &[], &mut found);
        }
    }
    let absolute = found.into_iter().map(|path| {
        let ups = path.iter().take_while(|name| *name == "super").count();
        match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [own, &path[1..]].concat(),
            "super" => [&own[..own.len() - ups], &path[ups..]].concat(),
            _ => [own, &path].concat(),
        }
    });
    let module = absolute.filter_map(|path| {
        (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|it| all.contains_key(it))
    });
    module.filter(|module| module != own).collect()
}

/// All modules, each with the modules that it uses.
fn graph() -> BTreeMap<Names, BTreeSet<Names>> {
    let mut all = BTreeMap::new();
    modules(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &[], &mut all);
    assert!(all.len() > 100, "only {} files", all.len());
    let is_part = |names: &Names| {
        !matches!(names[0].as_str(), "lib" | "main") && names.last().is_some_and(|it| it != "tests")
    };
    let parts = all.iter().filter(|(names, _)| is_part(names));
    let graph: BTreeMap<_, _> =
        parts.map(|(names, source)| (names.clone(), uses(names, source, &all))).collect();
    let imports: usize = graph.values().map(BTreeSet::len).sum();
    assert!(imports > 300, "only {imports} imports");
    graph
}

#[test]
fn imports_point_down() {
    let level = |names: &Names| ROOMS.iter().position(|room| *room == names[0]);
    let mut wrong = Vec::new();
    for (own, used) in graph() {
        let Some(floor) = level(&own) else {
            wrong.push(format!("{} is in no room", own.join("::")));
            continue;
        };
        let up = used.iter().filter(|it| level(it).is_none_or(|level| level < floor));
        wrong.extend(up.map(|it| format!("{} uses {}", own.join("::"), it.join("::"))));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All modules that `own` uses, directly or through others.
fn reached(own: &Names, graph: &BTreeMap<Names, BTreeSet<Names>>) -> BTreeSet<Names> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![own.clone()]);
    while let Some(names) = next.pop() {
        let used = graph.get(&names).into_iter().flatten();
        next.extend(used.filter(|it| reached.insert((*it).clone())).cloned());
    }
    reached
}

#[test]
fn no_files_import_each_other() {
    let graph = graph();
    let mut wrong = Vec::new();
    for (own, used) in &graph {
        let back = used.iter().filter(|it| reached(it, &graph).contains(own));
        wrong.extend(back.map(|it| format!("{} uses {}", own.join("::"), it.join("::"))));
    }
    assert!(wrong.is_empty(), "these imports are part of a cycle: {wrong:#?}");
}

#[test]
fn paths_are_read_from_all_forms_of_imports() {
    let source = "use crate::{a::{self, b as _}, c::D}; // use crate::x;\nfn f() { super::e::g(); \
                  child::h(\"crate::y\") }\n#[cfg(test)]\nmod tests { use crate::z; }";
    let names = |path: &str| path.split("::").map(str::to_owned).collect::<Names>();
    let known =
        ["a", "a::b", "c", "room", "room::own", "room::own::child", "room::e", "x", "y", "z"];
    let all = known.iter().map(|path| (names(path), String::new())).collect();
    let used = uses(&names("room::own"), source, &all);
    let used: Vec<String> = used.iter().map(|it| it.join("::")).collect();
    assert_eq!(used, ["a", "a::b", "c", "room::e", "room::own::child"]);
}
