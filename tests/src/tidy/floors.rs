//! Which crate may use which: dependencies point down, and the pure crates stay nearly free of any.
//!
//! It reads the manifests and the lock file, and never runs cargo.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{Tree, Violation, code};

/// The floor of each crate; a crate uses only crates of lower floors.
const FLOORS: [(&str, &str, u8); 14] = [
    ("bus-schemas", "bus-schemas", 0),
    ("logic", "logic", 1),
    ("nats", "nats", 1),
    ("ucx-sys", "transport/ucx-sys", 1),
    ("gpu", "gpu", 1),
    ("transport", "transport", 1),
    ("engine", "engine", 2),
    ("sim", "sim", 2),
    ("actors", "actors", 3),
    ("gateway", "gateway", 4),
    ("node", "node", 5),
    ("bench", "bench", 6),
    ("examples", "examples", 6),
    ("thalamus-tests", "tests", 6),
];

/// The only uses within a floor: the bulk mover needs the memory it moves, and its own bindings.
const SIDEWAYS: [(&str, &str); 2] = [("transport", "gpu"), ("transport", "ucx-sys")];

/// The simulator sees what decides and what crosses the wire, and no adapter.
const SIM_SEES: [&str; 2] = ["bus-schemas", "logic"];

/// Crates with the same outputs for the same inputs.
const PURE: [&str; 3] = ["bus-schemas", "logic", "sim"];

/// What must not be anywhere below a pure crate: runtimes, IO, devices, hidden randomness.
const IMPURE: [&str; 10] = [
    "tokio",
    "ractor",
    "ractor_cluster",
    "async-nats",
    "cudarc",
    "axum",
    "rand",
    "fastrand",
    "mio",
    "libloading",
];

/// Every crate is on a floor, and uses only what is below it.
#[must_use]
pub fn dependencies_point_down(tree: &Tree) -> Vec<Violation> {
    let mut violations = unknown_crates(tree);
    for (name, dir, floor) in FLOORS {
        let path = format!("{dir}/Cargo.toml");
        for (used, line) in used(tree, &path) {
            let Some((_, _, below)) = FLOORS.iter().find(|(other, _, _)| *other == used) else {
                continue;
            };
            let allowed = if name == "sim" {
                SIM_SEES.contains(&used.as_str())
            } else {
                *below < floor || SIDEWAYS.contains(&(name, &used))
            };
            if !allowed {
                let rule = format!(
                    "{name} (floor {floor}) must not use {used} (floor {below}): dependencies point down"
                );
                violations.push(Violation::new(&path, line, rule));
            }
        }
    }
    violations
}

fn unknown_crates(tree: &Tree) -> Vec<Violation> {
    let known = |path: &str| {
        path == "Cargo.toml"
            || FLOORS
                .iter()
                .any(|(_, dir, _)| path == format!("{dir}/Cargo.toml"))
    };
    let is_manifest = |path: &str| path == "Cargo.toml" || path.ends_with("/Cargo.toml");
    tree.sources
        .iter()
        .filter(|source| is_manifest(&source.path) && !known(&source.path))
        .map(|source| {
            let rule = "a crate without a floor: give it one in tidy/floors.rs";
            Violation::new(&source.path, 1, rule)
        })
        .collect()
}

/// Nothing below a pure crate is impure.
#[must_use]
pub fn pure_crates_are_pure(tree: &Tree, lock: &str) -> Vec<Violation> {
    let locked = locked(lock);
    let mut violations = Vec::new();
    for (name, dir, _) in FLOORS.iter().filter(|(name, _, _)| PURE.contains(name)) {
        let path = format!("{dir}/Cargo.toml");
        for (direct, line) in used(tree, &path) {
            // A crate of ours is checked by its own manifest: the lock file mixes in what its tests use.
            if FLOORS.iter().any(|(ours, _, _)| *ours == direct) {
                continue;
            }
            for below in reachable(&direct, &locked) {
                if IMPURE.contains(&below.as_str()) {
                    let rule = format!("{name} must stay pure, but {direct} brings {below}");
                    violations.push(Violation::new(&path, line, rule));
                }
            }
        }
    }
    violations
}

/// Supervision needs unwinding.
#[must_use]
pub fn panics_unwind(tree: &Tree) -> Vec<Violation> {
    tree.sources
        .iter()
        .filter(|source| source.path.ends_with(".toml"))
        .flat_map(|source| {
            source.text.lines().enumerate().filter_map(|(at, line)| {
                let compact: String = line.split_whitespace().collect();
                compact.starts_with("panic=\"abort\"").then(|| {
                    let rule = "supervision needs unwinding: no abort on panic";
                    Violation::new(&source.path, at + 1, rule)
                })
            })
        })
        .collect()
}

/// What a manifest's `[dependencies]` name, with their lines; not what only its tests use.
fn used(tree: &Tree, path: &str) -> Vec<(String, usize)> {
    let Some(source) = tree.get(path) else {
        return Vec::new();
    };
    let manifest: Table = source
        .text
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let sections = ["dependencies", "build-dependencies"];
    let names = sections
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|table| table.keys().cloned());
    names
        .map(|name| {
            let is_line = |line: &str| line.starts_with(&name) && code::has_word(line, &name);
            let line = source.text.lines().position(is_line).map_or(1, |at| at + 1);
            (name, line)
        })
        .collect()
}

/// Each package of a lock file with what it depends on, versions merged.
fn locked(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lock: Table = lock.parse().expect("cargo wrote the lock file");
    let mut packages = BTreeMap::<String, BTreeSet<String>>::new();
    let listed = lock.get("package").and_then(Value::as_array);
    for package in listed.into_iter().flatten() {
        let name = package
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let uses = package.get("dependencies").and_then(Value::as_array);
        let uses = uses.into_iter().flatten().filter_map(Value::as_str);
        let names = uses
            .filter_map(|text| text.split(' ').next())
            .map(str::to_owned);
        packages.entry(name.to_owned()).or_default().extend(names);
    }
    packages
}

fn reachable(from: &str, packages: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(packages.get(&name).into_iter().flatten().cloned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CLEAN, Source},
        *,
    };

    #[test]
    fn looking_up_is_found() {
        let up = manifest("nats", "actors");
        assert!(up[0].contains("nats/Cargo.toml:2: nats (floor 1) must not use actors (floor 3)"));
        assert_eq!(manifest("actors", "nats"), CLEAN);
    }

    #[test]
    fn looking_sideways_is_found_but_for_the_two_exceptions() {
        assert_eq!(manifest("logic", "nats").len(), 1);
        assert_eq!(manifest("sim", "nats").len(), 1);
        assert_eq!(manifest("transport", "gpu").len(), 0);
        assert_eq!(manifest("gpu", "transport").len(), 1);
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        let tree = Tree::of(vec![Source::new("utils/Cargo.toml", "")]);
        assert_eq!(dependencies_point_down(&tree).len(), 1);
    }

    #[test]
    fn impurity_is_found_however_deep() {
        let lock = "[[package]]\nname = 'a'\ndependencies = ['b 1.0.0']\n\
                    [[package]]\nname = 'b'\ndependencies = ['tokio']\n";
        let tree = Tree::of(vec![Source::new(
            "logic/Cargo.toml",
            "[dependencies]\na = '1'\n",
        )]);
        let problems = pure_crates_are_pure(&tree, lock);
        assert_eq!(
            problems[0].to_string(),
            "logic/Cargo.toml:2: logic must stay pure, but a brings tokio"
        );
    }

    #[test]
    fn what_only_tests_use_is_free() {
        let lock = "[[package]]\nname = 'tokio'\n";
        let text = "[dev-dependencies]\ntokio = '1'\n";
        let tree = Tree::of(vec![Source::new("logic/Cargo.toml", text)]);
        assert_eq!(pure_crates_are_pure(&tree, lock), []);
    }

    #[test]
    fn abort_on_panic_is_found() {
        let text = "[profile.release]\npanic = \"abort\"\n";
        let tree = Tree::of(vec![Source::new("Cargo.toml", text)]);
        assert_eq!(panics_unwind(&tree).len(), 1);
    }

    fn manifest(name: &str, uses: &str) -> Vec<String> {
        let text = format!("[dependencies]\n{uses}.workspace = true\n");
        let tree = Tree::of(vec![Source::new(&format!("{name}/Cargo.toml"), &text)]);
        dependencies_point_down(&tree)
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}
