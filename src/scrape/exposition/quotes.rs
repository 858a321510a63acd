//! Finds the end of a record whose label values contain newlines.

/// Tracks quotes and braces through an unfinished sample, line by line. The result is meaningful
/// only for text that the parser accepts.
#[derive(Debug)]
pub(super) struct Quotes {
    position: Position,
    /// Number of bytes of the record that have been scanned.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// After the closing brace, where quotes have no meaning.
    Outside,
    /// Inside the braces, but not inside a quoted string.
    Labels,
    Quoted,
}

impl Quotes {
    /// The position after `line` and its newline, which is part of a label value.
    pub(super) fn after(line: &[u8]) -> Self {
        Self { position: Position::Quoted, seen: line.len() + 1 }
    }

    /// Whether a newline at this position is part of a label value.
    pub(super) fn is_open(&self) -> bool {
        self.position == Position::Quoted
    }

    /// Scans `record` to its end, from where the last scan stopped.
    pub(super) fn scan(&mut self, record: &[u8]) {
        let mut bytes = record[self.seen..].iter();
        self.seen = record.len();
        while let Some(&byte) = bytes.next() {
            self.position = match (self.position, byte) {
                (Position::Quoted, b'\\') => {
                    // The lexer skips NUL bytes.
                    let _escaped = bytes.find(|&&byte| byte != 0);
                    Position::Quoted
                }
                (Position::Quoted, b'"') => Position::Labels,
                (Position::Labels, b'"') => Position::Quoted,
                (Position::Labels, b'}') => Position::Outside,
                (position, _) => position,
            };
        }
    }
}
