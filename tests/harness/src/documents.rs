//! The documents in this repository, and their fenced blocks.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The path of the document, relative to the root of the repository.
    pub document: String,
    /// The line number of the opening fence.
    pub line: usize,
    /// The info string after the opening fence. May be empty.
    pub language: String,
    /// The lines between the fences.
    pub text: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.document, self.line)
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is in tests/harness")
}

/// The manifest of the proxy.
pub fn manifest() -> String {
    fs::read_to_string(root().join("Cargo.toml")).expect("a manifest")
}

/// All files below `folder` whose name ends in one of these endings. Build output and files found
/// by fuzzing are left out.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        if path.is_dir() {
            let is_hidden = name.starts_with('.') && name != ".github";
            if !is_hidden && !["target", "corpus", "artifacts"].contains(&name.as_str()) {
                found.extend(files(&path, endings));
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path of each document, relative to the root, and its text.
pub fn documents() -> Vec<(String, String)> {
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        (name, fs::read_to_string(&path).expect("UTF-8"))
    };
    files(root(), &[".md"]).into_iter().map(named).collect()
}

/// All blocks of all documents.
pub fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    for (document, text) in documents() {
        let mut open: Option<Block> = None;
        let mut indentation = "";
        for (at, line) in text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            if fence.is_some() && open.is_none() {
                indentation = line.split('`').next().unwrap_or_default();
            }
            // In a list, a block is indented.
            let line = line.strip_prefix(indentation).unwrap_or(line);
            match (fence, open.take()) {
                (Some(language), None) => {
                    open = Some(Block {
                        document: document.clone(),
                        line: at + 1,
                        language: language.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(block)) => found.push(block),
                (None, Some(block)) => {
                    open = Some(Block { text: block.text.clone() + line + "\n", ..block });
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{document}: a block without an end");
    }
    assert!(found.len() > 20, "only {} blocks were found", found.len());
    found
}
