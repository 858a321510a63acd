//! Any contents of a PEM file:
//!
//! - Each line that begins a block is the place of a block, and blocks are numbered in order.
//! - Everything that rustls-pki-types reads from the file is read here too, with the same bytes,
//!   unless a block is reported as damaged: rustls-pki-types also accepts base64 without padding.
//! - For each purpose, every block is either used or has a remark that names it, except for
//!   parameters next to a key. No remark has a control character.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use scrapegate::tls::pem::{Block, Purpose, blocks, read};

const PURPOSES: [Purpose; 5] = [
    Purpose::ClientAuthorities,
    Purpose::ServerAuthorities,
    Purpose::Chain,
    Purpose::Key,
    Purpose::RevocationLists,
];

/// Asserts the property. `input` is the file.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let blocks = blocks(input);
    for (index, block) in blocks.iter().enumerate() {
        assert_eq!(block.place.number, index + 1);
    }
    for (line, label) in begin_lines(input) {
        let is_it = |block: &Block| block.place.line == line && block.place.label == label;
        assert!(blocks.iter().any(is_it), "line {line}, {label:?}: {blocks:?}");
    }
    let is_damaged = blocks.iter().any(|block| block.contents.is_err());
    for der in CertificateDer::pem_slice_iter(input).map_while(Result::ok) {
        let is_it = |block: &Block| block.contents.as_deref() == Ok(&*der);
        assert!(is_damaged || blocks.iter().any(is_it), "{}: {blocks:?}", der.escape_ascii());
    }
    for purpose in PURPOSES {
        let contents = read(input, purpose);
        for Block { place, .. } in &blocks {
            let is_used = contents.used.iter().any(|(used, _)| used == place);
            let name = format!("{place} ");
            let reported =
                contents.remarks.iter().filter(|remark| remark.text.starts_with(&name)).count();
            let is_silent = purpose == Purpose::Key && place.label == "EC PARAMETERS";
            assert!(usize::from(is_used) + reported == 1 || is_silent, "{place}: {contents:?}");
        }
        assert!(!contents.used.is_empty() || contents.remarks.iter().any(|it| it.is_error));
        for remark in &contents.remarks {
            assert!(!remark.text.chars().any(char::is_control), "{}", remark.text.escape_debug());
        }
    }
}

/// Lines that certainly begin a block: only the encapsulation boundary (RFC 7468 §2), with a label
/// of capital letters, digits and single blanks.
fn begin_lines(input: &[u8]) -> Vec<(usize, String)> {
    let text: String = input.iter().map(|&byte| char::from(byte)).collect();
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    for (index, line) in lines.split('\n').enumerate() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let is_plain = |label: &&str| {
            let is_word = |word: &str| {
                !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            };
            label.split(' ').all(is_word)
        };
        found.extend(label.filter(is_plain).map(|label| (index + 1, label.to_owned())));
    }
    found
}
