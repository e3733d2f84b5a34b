//! Just enough of Rust's lexis to tell code from comments and literals, and to find matching braces.
//!
//! It never parses: a rule that needs more than words and braces belongs to clippy.

/// The text with comments, strings and character literals blanked; every line keeps its length in characters.
#[must_use]
pub fn only(text: &str) -> String {
    let mut blanker = Blanker {
        chars: text.chars().collect(),
        at: 0,
        out: String::with_capacity(text.len()),
    };
    while blanker.at < blanker.chars.len() {
        blanker.step();
    }
    blanker.out
}

struct Blanker {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Blanker {
    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.blank_until_line_end(),
            ('/', '*') => self.blank_block_comment(),
            ('"', _) => self.blank_string(),
            ('r', '"' | '#') if !self.after_word() && self.is_raw_string() => {
                self.blank_raw_string();
            }
            ('b' | 'c', 'r' | '"') if !self.after_word() => self.keep(1),
            ('\'', _) => self.blank_char_or_keep_lifetime(),
            _ => self.keep(1),
        }
    }

    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// A `b` or `c` before a string is part of its prefix, not of a word.
    fn after_word(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|at| self.chars[at]);
        match before(1) {
            Some('b' | 'c') => before(2).is_some_and(is_word),
            Some(other) => is_word(other),
            None => false,
        }
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count.min(self.chars.len() - self.at) {
            self.out.push(self.chars[self.at]);
            self.at += 1;
        }
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count.min(self.chars.len() - self.at) {
            let newline = self.chars[self.at] == '\n';
            self.out.push(if newline { '\n' } else { ' ' });
            self.at += 1;
        }
    }

    fn blank_until_line_end(&mut self) {
        while self.at < self.chars.len() && self.peek(0) != '\n' {
            self.blank(1);
        }
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.blank(1);
                    continue;
                }
            }
            self.blank(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn blank_string(&mut self) {
        self.blank(1);
        while self.at < self.chars.len() {
            match self.peek(0) {
                '\\' => self.blank(2),
                '"' => return self.blank(1),
                _ => self.blank(1),
            }
        }
    }

    fn is_raw_string(&self) -> bool {
        self.peek(1 + self.hashes()) == '"'
    }

    fn hashes(&self) -> usize {
        let rest = &self.chars[self.at + 1..];
        rest.iter().take_while(|c| **c == '#').count()
    }

    fn blank_raw_string(&mut self) {
        let hashes = self.hashes();
        self.blank(hashes + 2);
        let end: Vec<char> = std::iter::once('"')
            .chain(std::iter::repeat_n('#', hashes))
            .collect();
        while self.at < self.chars.len() && !self.chars[self.at..].starts_with(&end) {
            self.blank(1);
        }
        self.blank(end.len());
    }

    fn blank_char_or_keep_lifetime(&mut self) {
        if self.peek(1) == '\\' {
            self.blank(3);
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.blank(1);
            }
            self.blank(1);
        } else if self.peek(2) == '\'' {
            self.blank(3);
        } else {
            self.keep(1);
        }
    }
}

/// Whether a character can be part of a word of code.
#[must_use]
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `line` with no letter of a longer word before or after it.
#[must_use]
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_start = word.starts_with(is_word) && before.is_some_and(is_word);
        let open_end = word.ends_with(is_word) && after.is_some_and(is_word);
        !open_start && !open_end
    })
}

/// The byte after the brace that closes the one at `open`; the end of the text if none does.
#[must_use]
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The number of the line, from 1, of a byte.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
        + 1
}

const CFG_TEST: &str = "#[cfg(test)]";

/// For each line, whether it is inside an item under `#[cfg(test)]`.
pub(super) fn test_lines(code: &str) -> Vec<bool> {
    let mut inside = vec![false; code.lines().count()];
    for (at, _) in code.match_indices(CFG_TEST) {
        let Some(open) = code[at..].find(['{', ';']).map(|found| at + found) else {
            continue;
        };
        let end = match code.as_bytes()[open] {
            b'{' => closing(code, open),
            _ => open + 1,
        };
        let lines = line_of(code, at) - 1..line_of(code, end - 1);
        inside[lines].fill(true);
    }
    inside
}

/// Names of modules that are declared under `#[cfg(test)]` and live in files of their own.
pub(super) fn test_module_names(code: &str) -> Vec<String> {
    code.match_indices(CFG_TEST)
        .filter_map(|(at, _)| {
            let item = &code[at + CFG_TEST.len()..];
            let item = &item[..item.find(['{', ';'])?];
            let name = item.split_whitespace().next_back()?;
            has_word(item, "mod").then(|| name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_nothing_else() {
        for (text, code) in [
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x{", 'y')"#, "f(    ,    )"),
            (r##"f(r#"a "b" {"#)"##, "f(            )"),
            (r#"f(b"\"{", br"{")"#, "f(b     , b    )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            (r"f('\'', '\\', '{')", "f(    ,     ,    )"),
            ("var\"x\"", "var   "),
        ] {
            assert_eq!(only(text), code, "{text}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "a\n\"b\nc\"\n/* d\n*/ e\n";
        assert_eq!(only(text).lines().count(), text.lines().count());
    }

    #[test]
    fn test_items_are_found_to_their_last_brace() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { {} }\n}\nfn c() {}\n";
        assert_eq!(test_lines(code), [false, true, true, true, true, false]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("x.unwrap()", "unwrap()"));
        assert!(!has_word("my_unsafe_name", "unsafe"));
        assert!(has_word("unsafe { }", "unsafe"));
    }
}
