//! Plain English: no tracked text has a phrase that the contributing guide rules out.
//!
//! Each phrase made a reader stop in an earlier version. The list grows with every further one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The phrase in lower case, and what to write instead.
const PHRASES: [(&str, &str); 45] = [
    ("a change of this key", "changing this key requires a restart"),
    ("anew", "again"),
    ("are told", "active voice: who tells, and what"),
    ("as it is", "unchanged"),
    ("as it stands", "unchanged"),
    ("but for", "except"),
    ("dear", "expensive"),
    ("for good", "permanently"),
    ("go on with", "continue with"),
    ("goes by", "uses, follows"),
    ("goes on with", "continues with"),
    ("has it that", "says that"),
    ("in vain", "without success"),
    ("is no http", "is not HTTP"),
    ("is no longer welcome", "is no longer authorized"),
    ("is none", "\"is not a ...\", or name the missing thing"),
    ("is said", "active voice: who says it"),
    ("is said of", "describes"),
    ("is there twice", "duplicate"),
    ("is told", "active voice: who tells, and what"),
    ("it takes one", "one is expected"),
    ("look-up", "lookup"),
    ("look-ups", "lookups"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("no length of time", "not a duration"),
    ("no longer welcome", "no longer authorized"),
    ("of which", "a second sentence"),
    ("out of the way", "say what happens"),
    ("records left out", "log records suppressed"),
    ("said of", "describes"),
    ("seldom", "rarely"),
    ("stands for itself", "say what it means"),
    ("takes a restart", "requires a restart"),
    ("takes it", "name what takes what"),
    ("that there are", "leave it out"),
    ("that there is", "leave it out"),
    ("the first to come", "the first client"),
    ("there are none", "name the missing things"),
    ("there is none", "name the missing thing"),
    ("what is no", "anything that is not"),
    ("what there is", "name it"),
    ("which there is", "leave it out"),
    ("whoever", "\"if you\", or \"a client that\""),
    ("whosoever", "\"a client that\""),
];

/// Where a phrase is right: file, phrase, reason.
const EXCEPTIONS: [(&str, &str, &str); 6] = [
    ("CHANGELOG.md", "is there twice", QUOTED),
    ("CHANGELOG.md", "it takes one", QUOTED),
    ("CHANGELOG.md", "look-ups", QUOTED),
    ("CHANGELOG.md", "no length of time", QUOTED),
    ("CHANGELOG.md", "records left out", QUOTED),
    ("CHANGELOG.md", "whoever", QUOTED),
];

const QUOTED: &str = "quotes a message of an earlier version";

const ENDINGS: [&str; 12] =
    ["adoc", "html", "ini", "md", "py", "rs", "service", "sh", "socket", "toml", "yaml", "yml"];

/// Folders with files that are not ours to word: inputs of fuzzing, fixtures, build output.
const SKIPPED: [&str; 9] = [
    ".git",
    "artifacts",
    "book",
    "corpus",
    "data",
    "dictionaries",
    "regressions",
    "seeds",
    "target",
];

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().expect("a type").is_dir() {
            if !SKIPPED.contains(&&*name) {
                texts(&path, found);
            }
        } else if path.extension().is_some_and(|it| ENDINGS.iter().any(|known| it == *known))
            || path
                .parent()
                .and_then(Path::file_name)
                .is_some_and(|it| it == "packaging" || it == ".ci")
        {
            found.push(path);
        }
    }
}

/// The text with one space between words and without comment marks, and for each byte its line.
/// A phrase may therefore begin on one line of a comment and end on the next.
fn flattened(text: &str) -> (String, Vec<usize>) {
    let (mut flat, mut lines) = (String::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start().trim_start_matches(['/', '!', '#', '*', '|', '>']);
        for word in line.split_whitespace() {
            flat.push_str(&word.to_lowercase());
            flat.push(' ');
            lines.resize(flat.len(), number + 1);
        }
    }
    (flat, lines)
}

/// The lines that have the phrase as whole words. Underscores part words: names of tests count.
fn lines_with(phrase: &str, (flat, lines): &(String, Vec<usize>)) -> BTreeSet<usize> {
    let part = |character: Option<char>| character.is_none_or(|it| !it.is_alphanumeric());
    [phrase.to_owned(), phrase.replace(' ', "_")]
        .iter()
        .flat_map(|form| flat.match_indices(form.as_str()))
        .filter(|(at, form)| {
            let before = flat[..*at].chars().next_back();
            // `option.is_none()` and `Option::is_none` are Rust's words, not ours.
            let is_method = !form.contains(' ') && matches!(before, Some('.' | ':'));
            part(before) && part(flat[at + form.len()..].chars().next()) && !is_method
        })
        .map(|(at, _)| lines[at])
        .collect()
}

#[test]
fn no_text_has_a_phrase_that_reads_as_translated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    texts(root, &mut files);
    assert!(files.len() > 300, "only {} files", files.len());
    let (mut hits, mut used) = (Vec::new(), BTreeSet::new());
    for file in files {
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        // It has the phrases.
        if name == "tests/words.rs" {
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let flat = flattened(&text);
        for (phrase, instead) in PHRASES {
            let allowed =
                EXCEPTIONS.iter().position(|(at, what, _)| *at == name && *what == phrase);
            for line in lines_with(phrase, &flat) {
                match allowed {
                    Some(exception) => _ = used.insert(exception),
                    None => hits.push(format!("{name}:{line}: {phrase:?}; write: {instead}")),
                }
            }
        }
    }
    assert!(hits.is_empty(), "{} hits\n{}", hits.len(), hits.join("\n"));
    let unused: Vec<_> = (0..EXCEPTIONS.len()).filter(|it| !used.contains(it)).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs: {unused:?}");
}

#[test]
fn a_phrase_is_found_across_lines_and_in_names_but_not_inside_words() {
    let text =
        flattened("/// The clients, of\n/// which one waits.\nfn of_which() {}\nproof whiches\n");
    assert_eq!(lines_with("of which", &text), BTreeSet::from([1, 3]));
}
