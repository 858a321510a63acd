//! Untrusted text on a terminal.

use std::fmt::{self, Write};

/// Text with all invisible characters escaped: control characters, which could move the cursor or
/// change colors, and marks that reverse the writing direction.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            // Quotes and backslashes are harmless here and frequent in labels.
            if matches!(character, '"' | '\'' | '\\') {
                f.write_char(character)?;
            } else {
                write!(f, "{}", character.escape_debug())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_direction_marks_are_escaped() {
        let hostile = "a{b=\"\\c\"}\x1b[2J\r\n\t\u{9b}31m\u{202e}\u{200b}\u{feff} é";
        let shown = Escaped(hostile).to_string();
        assert_eq!(shown, "a{b=\"\\c\"}\\u{1b}[2J\\r\\n\\t\\u{9b}31m\\u{202e}\\u{200b}\\u{feff} é");
        assert_eq!(Escaped(&shown).to_string(), shown, "a second escape changes nothing");
    }
}
