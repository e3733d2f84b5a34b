//! How a file looks: its header, its length, the length of its functions. It never judges what code does.

use super::{Source, Tree, Violation, code};

/// Lines of a file without an exception.
const FILE_LINES: usize = 400;
/// Lines of any file.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from `fn` to its last brace.
const FUNCTION_LINES: usize = 70;
/// Lines of the header of a crate.
const HEADER_LINES: std::ops::RangeInclusive<usize> = 3..=8;

/// Files of more than 400 lines, and why each is one thing all the same.
const LONG_FILES: [(&str, &str); 0] = [];

/// Written by a tool; nobody reads them.
const GENERATED: [&str; 1] = ["transport/ucx-sys/src/bindings.rs"];

/// Every file is short, or a listed exception that is still needed.
#[must_use]
pub fn file_sizes(tree: &Tree) -> Vec<Violation> {
    hand_written(tree)
        .filter_map(|source| {
            let lines = source.text.lines().count();
            let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
            let rule = match (lines, listed) {
                (FILE_LINES_MAX.., _) if lines > FILE_LINES_MAX => {
                    format!("{lines} lines; no file has more than {FILE_LINES_MAX}: split it by nouns")
                }
                (_, false) if lines > FILE_LINES => format!(
                    "{lines} lines; more than {FILE_LINES} needs a reason in the list of tidy/shape.rs"
                ),
                (_, true) if lines <= FILE_LINES => {
                    format!("{lines} lines; it no longer needs its entry in tidy/shape.rs")
                }
                _ => return None,
            };
            Some(Violation::new(&source.path, lines, rule))
        })
        .collect()
}

/// Every file says first what it is; a crate also says what it never does.
#[must_use]
pub fn headers(tree: &Tree) -> Vec<Violation> {
    hand_written(tree)
        .filter_map(|source| {
            let rule = header_problem(source)?;
            Some(Violation::new(&source.path, 1, rule))
        })
        .collect()
}

fn header_problem(source: &Source) -> Option<String> {
    let header: Vec<_> = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    if header.is_empty() {
        return Some("a file begins with a `//!` header that says what it is".to_owned());
    }
    if !source.path.ends_with("/lib.rs") {
        return None;
    }
    let text = header.join(" ").to_lowercase();
    if !HEADER_LINES.contains(&header.len()) {
        let (low, high) = (HEADER_LINES.start(), HEADER_LINES.end());
        Some(format!(
            "a crate's header has {low} to {high} lines, this one {}",
            header.len()
        ))
    } else if !["never", "nothing", "no "]
        .iter()
        .any(|word| text.contains(word))
    {
        Some("a crate's header says what the crate never does".to_owned())
    } else {
        None
    }
}

/// Every function fits a screen.
#[must_use]
pub fn function_lengths(tree: &Tree) -> Vec<Violation> {
    hand_written(tree)
        .flat_map(|source| {
            functions(&source.code)
                .into_iter()
                .filter(|(_, lines)| *lines > FUNCTION_LINES)
                .map(|(line, lines)| {
                    let rule =
                        format!("a function of {lines} lines; {FUNCTION_LINES} is the limit");
                    Violation::new(&source.path, line, rule)
                })
        })
        .collect()
}

/// First line and count of lines of each function with a body.
fn functions(code: &str) -> Vec<(usize, usize)> {
    code.match_indices("fn ")
        .filter(|(at, _)| !code[..*at].ends_with(code::is_word))
        .filter_map(|(at, _)| {
            let open = body(code, at)?;
            let first = code::line_of(code, at);
            let last = code::line_of(code, code::closing(code, open) - 1);
            Some((first, last + 1 - first))
        })
        .collect()
}

/// The brace that opens the body of the function at `at`; none for a declaration or a function type.
fn body(code: &str, at: usize) -> Option<usize> {
    let name = code[at + "fn ".len()..].trim_start();
    if !name.starts_with(code::is_word) {
        return None;
    }
    let mut nested = 0_i32;
    for (offset, byte) in code.as_bytes()[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b'{' if nested == 0 => return Some(at + offset),
            b';' if nested == 0 => return None,
            _ => {}
        }
    }
    None
}

fn hand_written(tree: &Tree) -> impl Iterator<Item = &Source> {
    tree.rust()
        .filter(|source| !GENERATED.contains(&source.path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CLEAN, found},
        *,
    };

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(
            found(file_sizes, "a/src/b.rs", &"//! b\n".repeat(400)),
            CLEAN
        );
        let problems = found(file_sizes, "a/src/b.rs", &"//! b\n".repeat(401));
        assert!(problems[0].contains("a/src/b.rs:401: 401 lines; more than 400"));
        let problems = found(file_sizes, "a/src/b.rs", &"//! b\n".repeat(601));
        assert!(problems[0].contains("no file has more than 600"));
    }

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(found(headers, "a/src/b.rs", "//! B.\nfn f() {}\n"), CLEAN);
        assert_eq!(found(headers, "a/src/b.rs", "fn f() {}\n").len(), 1);
    }

    #[test]
    fn a_crate_that_does_not_say_what_it_never_does_is_found() {
        assert_eq!(
            found(headers, "a/src/lib.rs", "//! A.\n//!\n//! Never b.\n"),
            CLEAN
        );
        assert_eq!(
            found(headers, "a/src/lib.rs", "//! A.\n//!\n//! Does b.\n").len(),
            1
        );
        assert_eq!(found(headers, "a/src/lib.rs", "//! A, never b.\n").len(), 1);
    }

    #[test]
    fn a_long_function_is_found_by_its_first_line() {
        let lines = |count| {
            format!(
                "//! A.\nfn f(x: [u8; 2]) {{\n{}}}\n",
                "    x();\n".repeat(count)
            )
        };
        assert_eq!(found(function_lengths, "a/src/b.rs", &lines(68)), CLEAN);
        let problems = found(function_lengths, "a/src/b.rs", &lines(69));
        assert_eq!(
            problems,
            ["a/src/b.rs:2: a function of 71 lines; 70 is the limit"]
        );
    }

    #[test]
    fn declarations_and_function_types_have_no_body() {
        let code =
            "trait T { fn a(&self); fn b(f: fn(u8) -> u8) -> u8 { f(1) } }\ntype F = fn (u8);\n";
        assert_eq!(functions(code), [(1, 1)]);
    }
}
