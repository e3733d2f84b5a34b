//! The house rules that a machine can check: floors, sizes, headers, banned words, documents.
//!
//! A rule takes the tree and gives its violations, each with file, line and what is wrong. It never changes a
//! file and never runs cargo. `tests/tests/tidy.rs` runs every rule on this repository; each rule's own tests
//! show it something that it must find. Start reading at [`Tree`], then any rule.

pub mod banned;
pub mod code;
pub mod documents;
pub mod floors;
pub mod shape;
mod tree;

use std::{fmt, path::PathBuf};

pub use tree::{Source, Tree};

/// One thing that is against a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, from the root of the repository.
    pub path: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The rule, and what to do.
    pub rule: String,
}

impl Violation {
    fn new(path: impl Into<PathBuf>, line: usize, rule: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line,
            rule: rule.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.rule)
    }
}

/// What a rule finds in a tree of one file.
#[cfg(test)]
fn found(rule: fn(&Tree) -> Vec<Violation>, path: &str, text: &str) -> Vec<String> {
    let tree = Tree::of(vec![Source::new(path, text)]);
    rule(&tree).iter().map(ToString::to_string).collect()
}

/// It finds nothing.
#[cfg(test)]
const CLEAN: [&str; 0] = [];
