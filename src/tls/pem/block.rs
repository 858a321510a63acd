//! A block of a PEM file.

use std::fmt;

/// Longest part of a label that a message repeats, in characters.
const MAX_LABEL: usize = 40;

/// One block, or text that looks like part of a block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The block's position in the file.
    pub place: BlockPlace,
    /// The decoded contents, or why the block cannot be used.
    pub contents: Result<Vec<u8>, Damage>,
}

/// The position of a block in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The number of the block, from 1.
    pub number: usize,
    /// The label, unchanged from the file, so it may contain anything. Empty for [`Damage::Bare`].
    pub label: String,
    /// The line on which the block begins, from 1.
    pub line: usize,
}

impl fmt::Display for BlockPlace {
    /// `block 2 (CERTIFICATE, line 21)`, or `block 2 (no label, line 21)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, label, line } = self;
        let label = if label.is_empty() { "no label" } else { label };
        let shown: String = label.chars().take(MAX_LABEL).collect();
        write!(f, "block {number} ({}, line {line})", shown.escape_debug())
    }
}

/// Why a block cannot be used for any purpose.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends, or another block begins, before the END line.
    #[error("has no END line")]
    NoEnd,
    /// An END line without a BEGIN line before it.
    #[error("has no BEGIN line; the block is not complete")]
    NoBegin,
    /// The END line names another label.
    #[error("ends with the END line of another label")]
    OtherEnd,
    /// A line that is almost a BEGIN or END line.
    #[error(
        "has a malformed BEGIN or END line; it must be `-----BEGIN …-----` or \
         `-----END …-----`, with five hyphens on each side"
    )]
    Malformed,
    /// Lines of base64 outside a block.
    #[error(
        "is incomplete: lines {first}-{last} look like a block without BEGIN and END lines; add \
         both lines, or remove this text"
    )]
    Bare {
        /// The first of the lines, from 1.
        first: usize,
        /// The last of the lines, from 1.
        last: usize,
    },
    /// BEGIN, contents and END are on one line.
    #[error("is on one line; put BEGIN, the contents and END on separate lines")]
    OneLine,
    /// Text before the hyphens of the BEGIN line.
    #[error("has text before BEGIN on the same line")]
    TextBefore,
    /// The BEGIN line is commented out with `#`, `;` or `//`.
    #[error("is commented out and not used")]
    CommentedOut,
    /// No contents between BEGIN and END.
    #[error("is empty")]
    Empty,
    /// The contents between BEGIN and END are not base64.
    #[error("is damaged: its contents are not base64")]
    NotBase64,
    /// RFC 1421 encryption, as old OpenSSL versions wrote it.
    #[error("is encrypted")]
    Encrypted,
}
