//! Where a record goes on past a newline.

/// Follows quotes and braces through a sample that has begun, line by line. What it says holds for
/// text that the parser takes; of any other it need not make sense.
#[derive(Debug)]
pub(super) struct Quotes {
    state: State,
    /// How many bytes of the record it has seen.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Behind the closing brace, where quotes mean nothing.
    Outside,
    /// Between label values.
    Labels,
    Quoted,
}

impl Quotes {
    /// Behind `line` and its newline, which is part of a label value.
    pub(super) fn behind(line: &[u8]) -> Self {
        Self { state: State::Quoted, seen: line.len() + 1 }
    }

    /// Whether a newline that comes now is part of a label value.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Quoted
    }

    /// Goes on to the end of `record`. It has seen the beginning.
    pub(super) fn scan(&mut self, record: &[u8]) {
        let mut bytes = record[self.seen..].iter();
        self.seen = record.len();
        while let Some(&byte) = bytes.next() {
            self.state = match (self.state, byte) {
                (State::Quoted, b'\\') => {
                    // The lexer does not see a NUL.
                    let _escaped = bytes.find(|&&byte| byte != 0);
                    State::Quoted
                }
                (State::Quoted, b'"') => State::Labels,
                (State::Labels, b'"') => State::Quoted,
                (State::Labels, b'}') => State::Outside,
                (state, _) => state,
            };
        }
    }
}
