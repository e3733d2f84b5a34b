//! Every text file of the repository, read once. Never what git does not keep: build folders, environments.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::code;

/// A text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// For Rust: the text with comments and literals blanked; lines and columns are the same.
    pub code: String,
    /// For Rust: whether each line, from 0, is compiled for tests only.
    pub test_lines: Vec<bool>,
}

impl Source {
    /// A file of this path and text.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) {
            code::only(text)
        } else {
            String::new()
        };
        let whole = is_test_path(path);
        let test_lines = code::test_lines(&code)
            .into_iter()
            .map(|inside| inside || whole)
            .collect();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            test_lines,
        }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Lines of code with their numbers from 1, without those that only tests have.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .filter(|(at, _)| !self.test_lines.get(*at).copied().unwrap_or(false))
            .map(|(at, line)| (at + 1, line))
    }

    /// All lines of code with their numbers from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Sorted by path.
    pub sources: Vec<Source>,
}

/// Names of folders that are not part of the repository.
const SKIPPED_DIRS: [&str; 5] = [".git", ".venv", "__pycache__", "shared", "node_modules"];
/// Endings of files that are text.
const TEXT_ENDINGS: [&str; 12] = [
    "rs", "toml", "md", "py", "sh", "yml", "yaml", "json", "service", "h", "hex", "txt",
];
/// Text files without an ending.
const TEXT_NAMES: [&str; 6] = [
    "x",
    "run",
    "Containerfile",
    "LICENSE",
    "NOTICE",
    ".gitignore",
];
/// A larger file is data, whatever its name.
const TEXT_BYTES_MAX: u64 = 4 << 20;

impl Tree {
    /// Reads the repository that this crate is part of.
    ///
    /// # Panics
    /// If it cannot be read: then nothing can be checked.
    #[must_use]
    pub fn of_repository() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("this crate is a folder of the repository");
        let mut paths = Vec::new();
        collect(root, &mut paths);
        let sources = paths.iter().map(|path| {
            let text = fs::read(path).expect("a file that was just listed");
            Source::new(&relative(root, path), &String::from_utf8_lossy(&text))
        });
        Self::of(sources.collect())
    }

    /// A tree of these files.
    #[must_use]
    pub fn of(mut sources: Vec<Source>) -> Self {
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        mark_test_modules(&mut sources);
        Self { sources }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.is_rust())
    }

    /// The file of this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path
        .strip_prefix(root)
        .expect("it was found below the root");
    inside.to_string_lossy().replace('\\', "/")
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let kind = entry.file_type().expect("a file that was just listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if kind.is_dir() && !SKIPPED_DIRS.contains(&name.as_str()) && !is_target(&name) {
            collect(&path, paths);
        } else if kind.is_file() && is_text(&name) && size(&path) <= TEXT_BYTES_MAX {
            paths.push(path);
        }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn is_target(name: &str) -> bool {
    name == "target" || name.starts_with("target-")
}

fn is_text(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    TEXT_ENDINGS.contains(&ending) || TEXT_NAMES.contains(&name)
}

/// `#[cfg(test)] mod name;` makes the whole file `name` test code.
fn mark_test_modules(sources: &mut [Source]) {
    let marked: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            let names = code::test_module_names(&source.code);
            names
                .into_iter()
                .flat_map(|name| module_paths(&source.path, &name))
        })
        .collect();
    for source in sources {
        if marked.contains(&source.path) {
            source.test_lines.fill(true);
        }
    }
}

/// Where the module `name` of the file `path` can be.
fn module_paths(path: &str, name: &str) -> [String; 3] {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    [
        format!("{dir}/{name}.rs"),
        format!("{dir}/{name}/mod.rs"),
        format!("{dir}/{stem}/{name}.rs"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_only_tests_have_is_test_code() {
        let tree = Tree::of(vec![
            Source::new("logic/src/kv.rs", "#[cfg(test)]\nmod model;\nmod pool;\n"),
            Source::new("logic/src/kv/model.rs", "fn slow() {}\n"),
            Source::new("logic/src/kv/pool.rs", "fn fast() {}\n"),
        ]);
        let lines = |path| tree.get(path).map(|s| s.product_lines().count());
        assert_eq!(lines("logic/src/kv/model.rs"), Some(0));
        assert_eq!(lines("logic/src/kv/pool.rs"), Some(1));
    }

    #[test]
    fn the_repository_has_its_own_rules_in_it() {
        let tree = Tree::of_repository();
        assert!(tree.get("tests/src/tidy/tree.rs").is_some());
        assert!(tree.sources.iter().all(|s| !s.path.starts_with("target")));
    }
}
