//! How long a pass takes: five constants, or a table of passes.
//!
//! A profile is a JSON object in a file: `a`, `c`, `d`, `e` and `g` of the pass model, or `prefill_ms` and `decode_ms` with
//! their companions. Every refusal names the file and the key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{Pass, Table};

/// Longest pass that a profile may predict: beyond it every deadline has passed.
const PASS_MS_MAX: f64 = 3_600_000.0;
/// Largest profile file: a hundred times a real one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The system refused.
    #[error("cannot read the timing profile {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Not a profile.
    #[error("the timing profile {path} cannot be used: {problem}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Predicts the time of a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Profile {
    /// By constants.
    Linear(Linear),
    /// By measured passes.
    Table(Table),
}

/// Constants of a pass in milliseconds: `a + c*B + d*ctx/1000 + sum(e*n + g*n*(prefix + n/2))`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// For the pass itself.
    pub a: f64,
    /// For each sequence that decodes.
    pub c: f64,
    /// For each 1,000 tokens of their context.
    pub d: f64,
    /// For each new prompt token.
    pub e: f64,
    /// For each pair of a new prompt token and one before it.
    pub g: f64,
}

impl Profile {
    /// Reads a profile from a file.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let fail = |source| ProfileError::Io {
            path: path.into(),
            source,
        };
        let found = fs::metadata(path).map_err(fail)?.len();
        if found > FILE_BYTES_MAX {
            return Err(fail(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(path).map_err(fail)?;
        Self::parse(&text).map_err(|problem| ProfileError::Malformed {
            path: path.into(),
            problem,
        })
    }

    /// Parses the content of a profile file; what is wrong with it otherwise.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if value.get("prefill_ms").is_some() {
            return Table::parse(&value).map(Self::Table);
        }
        if value.get("a").is_none() {
            return Err(
                "it has neither \"prefill_ms\" nor the constants \"a\", \"c\", \"d\", \"e\", \"g\""
                    .into(),
            );
        }
        let linear: Linear = serde_json::from_value(value).map_err(|e| e.to_string())?;
        linear.check()?;
        Ok(Self::Linear(linear))
    }

    /// Time of a pass in microseconds.
    #[must_use]
    pub fn pass_us(&self, pass: &Pass) -> u64 {
        let ms = match self {
            Self::Linear(linear) => linear.pass_ms(pass),
            Self::Table(table) => table.pass_ms(pass),
        };
        (ms.clamp(0.0, PASS_MS_MAX) * 1000.0).round() as u64
    }
}

impl Linear {
    fn check(&self) -> Result<(), String> {
        let named = [
            ("a", self.a),
            ("c", self.c),
            ("d", self.d),
            ("e", self.e),
            ("g", self.g),
        ];
        match named.iter().find(|(_, value)| *value < 0.0) {
            None => Ok(()),
            Some((name, value)) => Err(format!("its {name:?} is negative: {value}")),
        }
    }

    fn pass_ms(&self, pass: &Pass) -> f64 {
        let decode =
            self.c * f64::from(pass.decodes) + self.d * pass.decode_context as f64 / 1000.0;
        let prefill = |(n, prefix): &(u32, u32)| {
            let (n, prefix) = (f64::from(*n), f64::from(*prefix));
            self.e * n + self.g * n * (prefix + n / 2.0)
        };
        self.a + decode + pass.prefills.iter().map(prefill).sum::<f64>()
    }
}
