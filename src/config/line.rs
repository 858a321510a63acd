//! Parses one line.

/// Why a line is not valid in an INI file.
///
/// No message repeats the line, because it may contain a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("a carriage return without a line feed; lines end in LF or CRLF")]
    LoneCarriageReturn,
    #[error("missing `]` after the section name")]
    NoClosingBracket,
    #[error("text after `]`; put the comment on a separate line")]
    TextAfterBracket,
    #[error("the section name is empty")]
    EmptySectionName,
    #[error("whitespace around the section name")]
    SpaceAroundSectionName,
    #[error("the section name ends in a backslash, which is not supported")]
    SectionNameEndsInBackslash,
    #[error("the section name contains the control character {0}")]
    ControlInSectionName(CodePoint),
    #[error("not a `[section]`, a `key = value` or a comment (a comment starts with `#` or `;`)")]
    NoEqualsSign,
    #[error("missing key before `=`")]
    EmptyKey,
    #[error("a key may contain only letters, digits, `-` and `_`")]
    BadKey,
    #[error("the value contains the control character {0}")]
    ControlInValue(CodePoint),
    #[error("the value begins or ends with the invisible character {0}")]
    InvisibleAroundValue(CodePoint),
}

/// A character, shown as its code point because it is invisible.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CodePoint(char);

impl std::fmt::Display for CodePoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "U+{:04X}", u32::from(self.0))
    }
}

/// The meaning of a valid line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    BlankOrComment,
    Header(&'a str),
    KeyValue { key: &'a str, value: &'a str },
}

/// The characters that are removed around names, keys and values.
pub(super) const SPACE: [char; 2] = [' ', '\t'];

impl<'a> Line<'a> {
    /// Parses a line without its line end.
    pub(super) fn of(line: &'a str) -> Result<Self, Mistake> {
        if line.contains('\r') {
            return Err(Mistake::LoneCarriageReturn);
        }
        let line = line.trim_matches(SPACE);
        if line.is_empty() || line.starts_with(['#', ';']) {
            Ok(Self::BlankOrComment)
        } else if let Some(rest) = line.strip_prefix('[') {
            header(rest).map(Self::Header)
        } else {
            entry(line)
        }
    }
}

/// Parses the text after a `[`.
fn header(rest: &str) -> Result<&str, Mistake> {
    let (name, after) = rest.split_once(']').ok_or(Mistake::NoClosingBracket)?;
    if !after.is_empty() {
        return Err(Mistake::TextAfterBracket);
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(Mistake::ControlInSectionName(CodePoint(control)));
    }
    if name.trim().is_empty() {
        return Err(Mistake::EmptySectionName);
    }
    if name.trim() != name {
        return Err(Mistake::SpaceAroundSectionName);
    }
    // rust-ini parses `\]` as part of the name.
    if name.ends_with('\\') {
        return Err(Mistake::SectionNameEndsInBackslash);
    }
    Ok(name)
}

fn entry(line: &str) -> Result<Line<'_>, Mistake> {
    let (key, value) = line.split_once('=').ok_or(Mistake::NoEqualsSign)?;
    let (key, value) = (key.trim_end_matches(SPACE), value.trim_matches(SPACE));
    if key.is_empty() {
        return Err(Mistake::EmptyKey);
    }
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Err(Mistake::BadKey);
    }
    if let Some(control) = value.chars().find(|c| c.is_control()) {
        return Err(Mistake::ControlInValue(CodePoint(control)));
    }
    // rust-ini strips all Unicode whitespace around a value. A value must be what it looks like.
    let ends = [value.chars().next(), value.chars().next_back()];
    if let Some(space) = ends.into_iter().flatten().find(|c| c.is_whitespace()) {
        return Err(Mistake::InvisibleAroundValue(CodePoint(space)));
    }
    Ok(Line::KeyValue { key, value })
}
