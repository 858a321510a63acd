//! What could not be converted.

use std::fmt;

use super::node::Node;

/// Messages about parts of the input, in the order of the input.
#[derive(Default)]
pub(super) struct Remarks(Vec<Remark>);

/// A message, and the line and the module that it is about.
pub(super) struct Remark {
    line: usize,
    module: Option<String>,
    message: String,
}

impl Remarks {
    /// Adds a message about the input at `node`.
    pub(super) fn add(&mut self, node: &Node, module: Option<&str>, message: String) {
        let module = module.map(str::to_owned);
        self.0.push(Remark { line: node.line, module, message });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Remark> {
        self.0.iter()
    }
}

impl fmt::Display for Remark {
    /// `LINE: module NAME: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(module) = &self.module {
            write!(f, "module {}: ", module.escape_debug())?;
        }
        f.write_str(&self.message)
    }
}
