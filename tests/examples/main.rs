//! Every example in the documents is parsed or run. Each fenced block is read according to its
//! language, and each `scrapegate …` in the text by the argument parser. A block of an unknown
//! language is an error.
//!
//! `tests/real/examples.rs` has the examples that need programs of Prometheus or systemd.

mod commands;
mod configuration;
mod text;

use std::collections::BTreeMap;

use scrapegate_harness::documents::{Block, blocks};

/// The function that reads the blocks of a language.
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
fn every_block_has_a_reader() {
    let mut read = BTreeMap::new();
    for block in blocks() {
        let reader = reader(&block.language)
            .unwrap_or_else(|| panic!("{block}: no reader for {:?}", block.language));
        reader(&block);
        *read.entry(block.language).or_insert(0) += 1;
    }
    for language in ["sh", "console", "ini", "systemd", "yaml", "promql", "text"] {
        assert!(read.contains_key(language), "{read:?}: no {language} was found");
    }
}
