//! Words that must not stand in code, and where each may stand all the same.
//!
//! Lints ban them too where they can; here is what they cannot see, and what must hold even where a lint was
//! switched off.

use super::{Source, Tree, Violation, code};

/// A word, where it is banned, and what to write instead.
struct Ban {
    words: &'static [&'static str],
    /// Begins of paths where it is banned; everywhere if empty.
    inside: &'static [&'static str],
    /// Begins of paths where it may stand.
    except: &'static [&'static str],
    /// It may stand in code that only tests have.
    tests_may: bool,
    why: &'static str,
}

/// Crates that decide or are decided in virtual time: the same inputs give the same outputs.
const PURE: &[&str] = &["logic/src/", "sim/src/", "bus-schemas/src/"];

/// The simulator's command line.
const SIM_COMMAND: &str = "sim/src/main.rs";

/// Places that talk to the machine below Rust, each with its reason.
const UNSAFE_MAY: &[&str] = &[
    "gpu/",
    "transport/",
    "engine/src/model/cpu/", // vector instructions and the threads that share them
    "engine/src/checkpoint/map.rs", // maps checkpoints
];

const BANS: &[Ban] = &[
    Ban {
        words: &[".unwrap()"],
        inside: &[],
        except: &[],
        tests_may: false,
        why: "write expect(\"why this cannot fail\"), or return the error",
    },
    Ban {
        words: &["todo!", "unimplemented!", "dbg!"],
        inside: &[],
        except: &[],
        tests_may: false,
        why: "finish it, or leave it out",
    },
    Ban {
        words: &["#[ignore", "allow(dead_code)", "allow(unused)"],
        inside: &[],
        except: &[],
        tests_may: false,
        why: "delete it, or make it run",
    },
    Ban {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        inside: &[],
        except: &[
            "node/",
            "bench/",
            "examples/",
            "tests/",
            "transport/examples/",
            SIM_COMMAND,
        ],
        tests_may: true,
        why: "use tracing; only binaries, benches and examples print",
    },
    Ban {
        words: &["Instant::now", "SystemTime", "UNIX_EPOCH"],
        inside: PURE,
        except: &[],
        tests_may: false,
        why: "the caller passes the time in",
    },
    Ban {
        words: &[
            "thread::spawn",
            "thread::sleep",
            "std::thread",
            "thread_local!",
        ],
        inside: PURE,
        except: &[],
        tests_may: false,
        why: "a core never spawns, waits or hides state",
    },
    Ban {
        words: &[
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "RandomState",
        ],
        inside: PURE,
        except: &[SIM_COMMAND],
        tests_may: true,
        why: "a core does no IO and draws nothing by itself",
    },
    Ban {
        words: &["unsafe"],
        inside: &[],
        except: UNSAFE_MAY,
        tests_may: false,
        why: "only gpu, transport, and the listed files of engine may",
    },
];

/// No banned word stands where it is banned.
#[must_use]
pub fn words(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .flat_map(|source| BANS.iter().flat_map(move |ban| broken(ban, source)))
        .collect()
}

fn broken(ban: &Ban, source: &Source) -> Vec<Violation> {
    let starts = |begins: &[&str]| begins.iter().any(|begin| source.path.starts_with(begin));
    if starts(ban.except) || (!ban.inside.is_empty() && !starts(ban.inside)) {
        return Vec::new();
    }
    let found = |(line, text): (usize, &str)| {
        let word = ban.words.iter().find(|word| code::has_word(text, word))?;
        let rule = format!("`{word}` must not stand here: {}", ban.why);
        Some(Violation::new(&source.path, line, rule))
    };
    if ban.tests_may {
        source.product_lines().filter_map(found).collect()
    } else {
        source.code_lines().filter_map(found).collect()
    }
}

/// Methods that walk a hash map in its own, random order.
const WALKS: [&str; 9] = [
    "iter",
    "iter_mut",
    "keys",
    "values",
    "values_mut",
    "drain",
    "retain",
    "into_iter",
    "into_values",
];

/// No hash map is walked where the order would decide something.
#[must_use]
pub fn hash_map_walks(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|source| PURE.iter().any(|begin| source.path.starts_with(begin)))
        .flat_map(|source| {
            let names = hash_maps(&source.code);
            let walked = move |(line, text): (usize, &str)| {
                let name = names.iter().find(|name| walks(text, name))?;
                let rule = format!(
                    "`{name}` is a hash map: its order must not decide; use an ordered map"
                );
                Some(Violation::new(&source.path, line, rule))
            };
            source
                .product_lines()
                .filter_map(walked)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Names of fields and variables that are hash maps or sets.
fn hash_maps(code: &str) -> Vec<String> {
    ["HashMap<", "HashSet<", "HashMap::", "HashSet::"]
        .iter()
        .flat_map(|kind| code.match_indices(kind))
        .filter_map(|(at, _)| {
            let before = code[..at].trim_end_matches(|c| code::is_word(c) || ":<&".contains(c));
            let before = before.trim_end().trim_end_matches([':', '=']).trim_end();
            let begin = before.rfind(|c| !code::is_word(c)).map_or(0, |at| at + 1);
            Some(before[begin..].to_owned()).filter(|name| !name.is_empty())
        })
        .collect()
}

fn walks(line: &str, name: &str) -> bool {
    let by_method = WALKS
        .iter()
        .any(|method| code::has_word(line, &format!("{name}.{method}(")));
    let by_loop = line.split_once(" in ").is_some_and(|(_, what)| {
        let what = what.trim_start_matches("&mut ").trim_start_matches('&');
        let what = what.trim_start_matches("self.");
        what.trim_end().trim_end_matches('{').trim_end() == name
    });
    by_method || by_loop
}

/// Words of unfinished work, wherever they stand.
#[must_use]
pub fn promises(tree: &Tree) -> Vec<Violation> {
    let words = ["FIX", "TO", "XX"].map(|begin| match begin {
        "FIX" => format!("{begin}ME"),
        "TO" => format!("{begin}DO"),
        _ => format!("{begin}X"),
    });
    tree.rust()
        .flat_map(|source| {
            let words = &words;
            source
                .text
                .lines()
                .enumerate()
                .filter_map(move |(at, line)| {
                    let word = words.iter().find(|word| code::has_word(line, word))?;
                    let rule = format!("{word}: finish it, or file an issue");
                    Some(Violation::new(&source.path, at + 1, rule))
                })
        })
        .collect()
}

/// No file names a folder of the machine that it was written on.
#[must_use]
pub fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let roots = ["work", "root", "farm"].map(|name| format!("/{name}/"));
    tree.sources
        .iter()
        .flat_map(|source| {
            let roots = &roots;
            source
                .text
                .lines()
                .enumerate()
                .filter_map(move |(at, line)| {
                    let root = roots.iter().find(|root| is_absolute(line, root))?;
                    let rule =
                        format!("`{root}` is a folder of one machine: name it from the repository");
                    Some(Violation::new(&source.path, at + 1, rule))
                })
        })
        .collect()
}

fn is_absolute(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| code::is_word(c) || ".-/}*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CLEAN, found},
        *,
    };

    #[test]
    fn banned_words_are_found_where_they_are_banned_only() {
        for (path, line, count) in [
            ("engine/src/a.rs", "x.unwrap();", 1),
            ("engine/src/a.rs", "// x.unwrap();", 0),
            ("engine/src/a.rs", "x.unwrap_or(1);", 0),
            ("engine/src/a.rs", "println!();", 1),
            ("node/src/a.rs", "println!();", 0),
            ("engine/tests/a.rs", "println!();", 0),
            ("logic/src/a.rs", "let t = Instant::now();", 1),
            ("actors/src/a.rs", "let t = Instant::now();", 0),
            ("sim/src/a.rs", "std::thread::spawn(f);", 1),
            ("engine/src/a.rs", "unsafe { f() }", 1),
            ("gpu/src/a.rs", "unsafe { f() }", 0),
            ("engine/src/a.rs", "#![allow(unsafe_code)]", 0),
            ("logic/src/a.rs", "#[ignore]", 1),
        ] {
            assert_eq!(found(words, path, line).len(), count, "{path}: {line}");
        }
    }

    #[test]
    fn walking_a_hash_map_is_found() {
        for (text, count) in [
            (
                "struct A { m: HashMap<u8, u8> }\nfn f(a: &A) { a.m.iter(); }",
                1,
            ),
            (
                "struct A { m: HashMap<u8, u8> }\nfn f(a: &A) { a.m.get(&1); }",
                0,
            ),
            ("let seen = HashSet::new();\nfor s in &seen {", 1),
            (
                "let m: std::collections::HashMap<u8, u8> = f();\nm.values();",
                1,
            ),
            (
                "struct A { m: BTreeMap<u8, u8> }\nfn f(a: &A) { a.m.iter(); }",
                0,
            ),
        ] {
            let hits = found(hash_map_walks, "logic/src/a.rs", text);
            assert_eq!(hits.len(), count, "{text}: {hits:?}");
            assert_eq!(found(hash_map_walks, "gateway/src/a.rs", text), CLEAN);
        }
    }

    #[test]
    fn promises_are_found_in_comments_too() {
        let line = format!("// {}{}: later", "TO", "DO");
        assert_eq!(found(promises, "a/src/b.rs", &line).len(), 1);
        assert_eq!(
            found(promises, "a/src/b.rs", "// TODOS is no word of ours").len(),
            0
        );
    }

    #[test]
    fn folders_of_a_machine_are_found() {
        let line = format!("see {}work/x", '/');
        assert_eq!(found(machine_paths, "docs/a.md", &line).len(), 1);
        assert_eq!(
            found(machine_paths, "docs/a.md", "see ../farm/x or a/farm/x").len(),
            0
        );
    }
}
