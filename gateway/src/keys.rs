//! API keys: which are let in, and whose tenant each one is.
//!
//! Keeps only keyed hashes, compares in constant time, and never shows or logs a key.

use std::{fmt, io, path::Path};

/// What every key begins with, so that a leaked one can be found by a scanner.
const PREFIX: &str = "th_";
/// Letters after the prefix: 32 random bytes in base64 or hexadecimal are more, 24 still cannot be guessed.
const SECRET_CHARS_MIN: usize = 24;
/// Longest key: what is longer is refused before it is hashed.
const KEY_BYTES_MAX: usize = 256;
/// Longest tenant name in bytes; it travels with each request.
const TENANT_BYTES_MAX: usize = 64;
/// Whose requests those are that have no tenant of their own.
pub const TENANT_DEFAULT: &str = "default";

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the file of API keys: {0}")]
    Read(#[from] io::Error),
    /// A line is not a key.
    #[error("line {line} of the file of API keys: {problem}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no key at all, so that nobody could be let in.
    #[error("the file of API keys has no key")]
    Empty,
}

/// Who may enter.
pub struct Keys {
    /// Fresh for each load: the hashes are worth nothing elsewhere.
    salt: [u8; 32],
    rows: Vec<Row>,
}

struct Row {
    hash: blake3::Hash,
    tenant: String,
}

impl Keys {
    /// Reads a file: a key a line, then if wanted a space and the tenant's name; `#` begins a comment.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Takes the text of such a file.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let mut keys = Self {
            salt,
            rows: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            let tenant = words.next().unwrap_or(TENANT_DEFAULT);
            if let Some(problem) = problem(key, tenant, words.next()) {
                return Err(KeysError::Line {
                    line: number,
                    problem,
                });
            }
            let hash = keys.hash(key);
            keys.rows.push(Row {
                hash,
                tenant: tenant.to_owned(),
            });
        }
        if keys.rows.is_empty() {
            return Err(KeysError::Empty);
        }
        Ok(keys)
    }

    /// Whose key it is. Every row is compared, each in constant time, so that the time tells nothing.
    #[must_use]
    pub fn tenant(&self, key: &str) -> Option<&str> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = self.hash(key);
        let mut found = None;
        for row in &self.rows {
            if row.hash == hash {
                found = Some(row.tenant.as_str());
            }
        }
        found
    }

    fn hash(&self, key: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.salt, key.as_bytes())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

fn problem(key: &str, tenant: &str, more: Option<&str>) -> Option<&'static str> {
    let secret = key.strip_prefix(PREFIX);
    let letters = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    match secret {
        None => Some("a key must begin with th_"),
        Some(secret) if secret.len() < SECRET_CHARS_MIN => {
            Some("a key must have at least 24 letters after th_")
        }
        Some(_) if key.len() > KEY_BYTES_MAX => Some("a key must have at most 256 letters"),
        Some(secret) if !letters(secret) => Some("a key may only use letters, digits, - and _"),
        Some(_) if tenant.len() > TENANT_BYTES_MAX || !letters(tenant) => {
            Some("a tenant must have at most 64 letters, digits, - and _")
        }
        Some(_) if more.is_some() => Some("a line holds a key and a tenant, no more"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "th_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "th_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn knows_whose_key_it_is() {
        let keys = Keys::parse(&format!("# ours\n{A} team-a # first\n\n  {B}\n")).expect("valid");
        assert_eq!(keys.tenant(A), Some("team-a"));
        assert_eq!(keys.tenant(B), Some(TENANT_DEFAULT));
        for stranger in ["", "th_", &A[1..], &format!("{A}a"), &"x".repeat(1 << 20)] {
            assert_eq!(keys.tenant(stranger), None);
        }
    }

    #[test]
    fn names_the_line_that_is_wrong_but_not_the_key() {
        for (text, at) in [
            ("sk-abc", 1),
            ("th_short", 1),
            (&format!("{A}\n{B}! x"), 2),
            (&format!("{A} t more"), 1),
            (&format!("{A} t/x"), 1),
        ] {
            let error = Keys::parse(text).expect_err(text);
            assert!(
                matches!(error, KeysError::Line { line, .. } if line == at),
                "{error}"
            );
            assert!(!error.to_string().contains("aaaa"));
        }
        assert!(matches!(Keys::parse("# none\n"), Err(KeysError::Empty)));
    }

    #[test]
    fn never_shows_a_key() {
        let keys = Keys::parse(A).expect("valid");
        assert!(!format!("{keys:?}").contains("aaaa"));
    }
}
