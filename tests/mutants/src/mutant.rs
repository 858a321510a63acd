//! The mutants, as cargo-mutants lists them.

use std::{ops::Range, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::{Failure, groups::Group};

/// One change of the code.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Mutant {
    /// The file and the place in it, and what changes.
    pub(crate) name: String,
    /// The file, relative to the root of the tree.
    pub(crate) file: String,
    pub(crate) genre: Genre,
    /// The code that takes the place of `span`.
    pub(crate) replacement: String,
    pub(crate) span: Span,
    /// The name of its group.
    #[serde(skip)]
    pub(crate) group: &'static str,
}

/// What kind of change a mutant is. The names are those of cargo-mutants.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub(crate) enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

/// From the first character to the one behind the last.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Span {
    start: Position,
    end: Position,
}

/// A character of a file. Both numbers begin with 1.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

impl Mutant {
    /// The bytes of `source` that this mutant replaces.
    pub(crate) fn range(&self, source: &str) -> Range<usize> {
        self.span.start.offset(source)..self.span.end.offset(source)
    }

    /// `source` with this mutant in it.
    pub(crate) fn apply(&self, source: &str) -> String {
        let range = self.range(source);
        format!("{} {} {}", &source[..range.start], self.replacement, &source[range.end..])
    }
}

impl Position {
    fn offset(self, source: &str) -> usize {
        let line_start: usize =
            source.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let rest = &source[line_start..];
        line_start + rest.char_indices().nth(self.column - 1).map_or(rest.len(), |(at, _)| at)
    }
}

/// All mutants of a group in `tree`.
pub(crate) fn list(tree: &Path, group: &Group) -> Result<Vec<Mutant>, Failure> {
    let mut command = Command::new("cargo");
    command.current_dir(tree).args(["mutants", "--list", "--json", "--no-config"]);
    command.args(group.files.iter().map(|file| format!("--file={file}")));
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let mut mutants: Vec<Mutant> = serde_json::from_slice(&output.stdout)?;
    // `Debug` is for developers, and no test relies on its output.
    mutants.retain(|mutant| !mutant.name.contains("fmt::Debug for"));
    for mutant in &mut mutants {
        mutant.group = group.name;
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    impl Mutant {
        /// Changes `code`, which is once in the only line `source`.
        pub(crate) fn example(
            source: &str,
            (genre, code, replacement): (&str, &str, &str),
        ) -> Self {
            let start = source.find(code).expect("the code of the mutant") + 1;
            let span = json!({
                "start": { "line": 1, "column": start },
                "end": { "line": 1, "column": start + code.len() },
            });
            let mutant = json!({
                "name": code, "file": "", "genre": genre, "replacement": replacement, "span": span,
            });
            serde_json::from_value(mutant).expect("a mutant")
        }
    }

    #[test]
    fn columns_count_characters() {
        let source = "// ä\nlet ö = a == b;\n";
        let mutant: Mutant = serde_json::from_str(
            r#"{"name": "", "file": "", "genre": "BinaryOperator", "replacement": "!=",
            "span": {"start": {"line": 2, "column": 11}, "end": {"line": 2, "column": 13}}}"#,
        )
        .expect("a mutant");
        assert_eq!("// ä\nlet ö = a  !=  b;\n", mutant.apply(source));
    }
}
