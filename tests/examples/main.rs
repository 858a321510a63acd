//! Every example in the documents is parsed here, or run: each fenced block by its language, each
//! `scrapegate …` in the text by the argument parser. A block of a language that nobody reads fails.
//!
//! What wants Prometheus' or systemd's own programs is in `tests/real/examples.rs`.

mod commands;
mod configuration;
mod text;

#[path = "../support/documents.rs"]
mod documents;

use std::collections::BTreeMap;

use documents::{Block, blocks};

/// The reader of a language's blocks.
fn reader(language: &str) -> Option<fn(&Block)> {
    match language {
        "sh" => Some(commands::read_script),
        "console" => Some(commands::read_session),
        "ini" => Some(configuration::read_ini),
        "systemd" => Some(configuration::read_unit),
        "yaml" => Some(configuration::read_yaml),
        "promql" => Some(configuration::read_promql),
        "text" => Some(text::read),
        _ => None,
    }
}

#[test]
fn every_block_is_read_by_somebody() {
    let mut read = BTreeMap::new();
    for block in blocks() {
        let reader = reader(&block.language)
            .unwrap_or_else(|| panic!("{block}: nobody reads {:?}", block.language));
        reader(&block);
        *read.entry(block.language).or_insert(0) += 1;
    }
    for language in ["sh", "console", "ini", "systemd", "yaml", "promql", "text"] {
        assert!(read.contains_key(language), "{read:?}: no {language} was found");
    }
}
