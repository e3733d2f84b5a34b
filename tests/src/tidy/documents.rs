//! Documents that must agree with the code: who decides what, and what crosses the wire.
//!
//! It checks names and places, never whether a sentence is true.

use std::collections::BTreeSet;

use bus_schemas::{
    Kind, NodeId,
    subjects::{self, Operation, Subjects},
};

use super::{Source, Tree, Violation, code};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const PROTOCOL: &str = "docs/PROTOCOL.md";
const SUBJECTS: &str = "bus-schemas/src/subjects.rs";
/// The column heads of the table that says who decides what.
const DECISIONS_HEAD: [&str; 3] = ["Decision", "File", "Symbol"];
/// The column heads of the table of kinds.
const KINDS_HEAD: [&str; 4] = ["Kind", "No.", "Subject ends", "Meaning"];
/// The column heads of the table of subjects.
const SUBJECTS_HEAD: [&str; 3] = ["Subject", "Built by", "Meaning"];
/// A file that states invariants is read whole.
const ARCHITECTURE_LINES: usize = 400;

/// Each row of the table "decision, file, symbol" names a file that exists and has that word in its code.
#[must_use]
pub fn decisions(tree: &Tree) -> Vec<Violation> {
    let Some(document) = tree.get(ARCHITECTURE) else {
        return vec![Violation::new(ARCHITECTURE, 1, "it is missing")];
    };
    let mut violations = Vec::new();
    let lines = document.text.lines().count();
    if lines > ARCHITECTURE_LINES {
        let rule = format!("{lines} lines; {ARCHITECTURE_LINES} is the limit");
        violations.push(Violation::new(ARCHITECTURE, lines, rule));
    }
    let rows = table(document, &DECISIONS_HEAD);
    if rows.is_empty() {
        let rule = format!("has no table with the columns {DECISIONS_HEAD:?}");
        violations.push(Violation::new(ARCHITECTURE, 1, rule));
    }
    violations.extend(rows.iter().filter_map(|row| {
        let (path, symbol) = (
            row.cells[1].trim_matches('`'),
            row.cells[2].trim_matches('`'),
        );
        let rule = decision_problem(tree, path, symbol)?;
        Some(Violation::new(ARCHITECTURE, row.line, rule))
    }));
    violations
}

fn decision_problem(tree: &Tree, path: &str, symbol: &str) -> Option<String> {
    let Some(source) = tree.get(path) else {
        return Some(format!("there is no file {path}"));
    };
    let found = source
        .code_lines()
        .any(|(_, line)| code::has_word(line, symbol));
    (symbol.is_empty() || !found).then(|| format!("{path} has no `{symbol}`"))
}

/// The table of kinds has one row for each kind, and no other.
#[must_use]
pub fn kinds(tree: &Tree) -> Vec<Violation> {
    let Some(document) = tree.get(PROTOCOL) else {
        return vec![Violation::new(PROTOCOL, 1, "it is missing")];
    };
    let want: BTreeSet<_> = Kind::ALL
        .iter()
        .map(|kind| {
            [
                format!("{kind:?}"),
                (*kind as u8).to_string(),
                kind.as_str().to_owned(),
            ]
        })
        .collect();
    let rows = table(document, &KINDS_HEAD);
    let have: BTreeSet<_> = rows
        .iter()
        .map(|row| [0, 1, 2].map(|cell| row.cells[cell].trim_matches('`').to_owned()))
        .collect();
    differences(document, &want, &have)
}

/// The table of subjects has one row for each subject, names who builds it, and leaves no builder out.
#[must_use]
pub fn subjects(tree: &Tree) -> Vec<Violation> {
    let (Some(document), Some(code)) = (tree.get(PROTOCOL), tree.get(SUBJECTS)) else {
        return vec![Violation::new(PROTOCOL, 1, "it or subjects.rs is missing")];
    };
    let rows = table(document, &SUBJECTS_HEAD);
    let cells = |cell: usize| -> BTreeSet<[String; 1]> {
        rows.iter()
            .map(|row| [row.cells[cell].trim_matches('`').to_owned()])
            .collect()
    };
    let want = all_subjects()
        .into_iter()
        .map(|subject| [subject])
        .collect();
    let mut violations = differences(document, &want, &cells(0));
    let builders = builders(code).into_iter().map(|name| [name]).collect();
    violations.extend(differences(document, &builders, &cells(1)));
    violations
}

/// Every subject that the code can build, with its variable parts in angle brackets.
fn all_subjects() -> BTreeSet<String> {
    let subjects = Subjects::new("<cluster>");
    let node = NodeId::new("node-0").expect("a valid name");
    let internal = [
        subjects
            .node(node, Kind::Admit)
            .replace(".admit", ".<kind>"),
        subjects.node_all(node),
        subjects.probe(node),
        subjects.beat(node),
        subjects.beat_all(),
        subjects.notice(node),
        subjects.notice_all(),
        subjects.admit_any(),
        subjects.card(0).replace(&"0".repeat(16), "<card>"),
    ]
    .map(|subject| subject.replace("node-0", "<node>"));
    let public = Operation::ALL.into_iter().flat_map(|op| {
        let model = op
            .takes_model()
            .then(|| subjects::public_model(op, "x").replace(".x", ".<model>"));
        std::iter::once(subjects::public(op)).chain(model)
    });
    let of_request = [
        subjects::public_cancel("<request>"),
        subjects::public_attach("<request>"),
        subjects::public_ack("<request>"),
    ];
    internal
        .into_iter()
        .chain(public)
        .chain(of_request)
        .collect()
}

/// Names of the functions of `subjects.rs` that give a subject.
fn builders(source: &Source) -> BTreeSet<String> {
    source
        .product_lines()
        .filter_map(|(_, line)| {
            let rest = line.trim_start().strip_prefix("pub fn ")?;
            let is_builder = rest.contains("-> String") && !rest.starts_with("model_token");
            is_builder.then(|| rest.split('(').next().unwrap_or(rest).to_owned())
        })
        .collect()
}

fn differences<const N: usize>(
    document: &Source,
    want: &BTreeSet<[String; N]>,
    have: &BTreeSet<[String; N]>,
) -> Vec<Violation> {
    let missing = want.difference(have).map(|row| ("lacks a row for", row));
    let extra = have
        .difference(want)
        .map(|row| ("has a row for what is not in the code:", row));
    missing
        .chain(extra)
        .map(|(what, row)| {
            let line = document
                .text
                .lines()
                .position(|line| line.contains(&row[0]));
            let rule = format!("{what} {}", row.join(", "));
            Violation::new(&document.path, line.map_or(1, |at| at + 1), rule)
        })
        .collect()
}

struct Row {
    line: usize,
    cells: Vec<String>,
}

/// The rows of every table of a document that has these column heads.
fn table(document: &Source, head: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (at, line) in document.text.lines().enumerate() {
        let cells = cells(line);
        if cells.len() != head.len() {
            inside = false;
        } else if cells == head {
            inside = true;
        } else if inside && !cells[0].starts_with("--") {
            let cells = cells.into_iter().map(str::to_owned).collect();
            rows.push(Row {
                line: at + 1,
                cells,
            });
        }
    }
    rows
}

fn cells(line: &str) -> Vec<&str> {
    line.trim()
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'))
        .map_or_else(Vec::new, |line| line.split('|').map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| Decision | File | Symbol |\n|---|---|---|\n";

    #[test]
    fn a_decision_without_its_file_or_symbol_is_found() {
        for (row, problem) in [
            ("| who | `logic/src/a.rs` | `Place` |", None),
            (
                "| who | `logic/src/b.rs` | `Place` |",
                Some("there is no file logic/src/b.rs"),
            ),
            (
                "| who | `logic/src/a.rs` | `Plac` |",
                Some("logic/src/a.rs has no `Plac`"),
            ),
        ] {
            let tree = Tree::of(vec![
                Source::new("logic/src/a.rs", "struct Place; // Plac\n"),
                Source::new(ARCHITECTURE, &format!("{TABLE}{row}\n")),
            ]);
            let rules: Vec<_> = decisions(&tree).into_iter().map(|v| v.rule).collect();
            assert_eq!(rules.first().map(String::as_str), problem, "{row}");
        }
    }

    #[test]
    fn a_document_without_the_table_is_found() {
        let tree = Tree::of(vec![Source::new(ARCHITECTURE, "# nothing\n")]);
        assert_eq!(decisions(&tree).len(), 1);
    }

    #[test]
    fn a_kind_that_is_not_documented_is_found() {
        let table = "| Kind | No. | Subject ends | Meaning |\n|---|---|---|---|\n| `Admit` | 1 | `admit` | x |\n";
        let tree = Tree::of(vec![Source::new(PROTOCOL, table)]);
        assert_eq!(kinds(&tree).len(), Kind::ALL.len() - 1);
    }

    #[test]
    fn a_row_that_the_code_does_not_know_is_found() {
        let table = "| Kind | No. | Subject ends | Meaning |\n|---|---|---|---|\n| `Fly` | 99 | `fly` | x |\n";
        let tree = Tree::of(vec![Source::new(PROTOCOL, table)]);
        assert!(
            kinds(&tree)
                .iter()
                .any(|v| v.line == 3 && v.rule.contains("not in the code"))
        );
    }

    #[test]
    fn a_builder_that_is_not_documented_is_found() {
        let code =
            "impl S { pub fn fly(&self) -> String { x() } }\n".replace("impl S { ", "impl S {\n");
        let tree = Tree::of(vec![
            Source::new(PROTOCOL, "| Subject | Built by | Meaning |\n"),
            Source::new(SUBJECTS, &code),
        ]);
        assert!(subjects(&tree).iter().any(|v| v.rule.ends_with("fly")));
    }
}
