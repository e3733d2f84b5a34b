//! `config.json` as typed questions: every answer is checked, and every refusal names the key.
//!
//! It knows nothing of what the values mean; `null` and absent are the same. Nested objects are sections
//! with dotted names.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::CheckpointError;

/// Largest JSON file beside the weights: the index of the largest public model has under 20 MB.
const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest count in a configuration: a product of two still fits 48 bits, and real vocabularies stay far below.
const COUNT_MAX: u64 = 1 << 24;

/// Values by name.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    prefix: String,
    values: Map<String, Value>,
}

/// Reads a JSON file of sane size.
pub(super) fn read_text(path: &Path) -> Result<String, CheckpointError> {
    let fail = |source| CheckpointError::Io {
        what: "read",
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?.len();
    if found > JSON_BYTES_MAX {
        return Err(CheckpointError::TooLarge {
            path: path.into(),
            found,
            most: JSON_BYTES_MAX,
        });
    }
    let mut text = String::new();
    file.take(JSON_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(fail)?;
    Ok(text)
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is missing, too large, or not a JSON object.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::parse(path, &read_text(path)?)
    }

    /// Parses `text`, the content of `path`.
    ///
    /// # Errors
    /// [`CheckpointError::Json`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, CheckpointError> {
        let values = serde_json::from_str(text).map_err(|source| CheckpointError::Json {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            prefix: String::new(),
            values,
        })
    }

    /// The file it came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A positive integer.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] if absent or anything else; so do all below.
    pub fn count(&self, key: &str) -> Result<usize, CheckpointError> {
        self.count_opt(key)?
            .ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    /// A positive integer, if present.
    pub fn count_opt(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        value
            .as_u64()
            .filter(|n| (1..=COUNT_MAX).contains(n))
            .map(|n| Some(n as usize))
            .ok_or_else(|| self.wrong(key, "an integer from 1 to 16777216"))
    }

    /// A positive finite number, if present.
    pub fn number_opt(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|n| n.is_finite() && *n > 0.0)
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a positive number"))
    }

    /// A positive finite number.
    pub fn number(&self, key: &str) -> Result<f64, CheckpointError> {
        self.number_opt(key)?
            .ok_or_else(|| self.wrong(key, "a positive number"))
    }

    /// True or false; `default` if absent.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    /// A text; `default` if absent.
    pub fn text_or(&self, key: &str, default: &str) -> Result<String, CheckpointError> {
        match self.value(key) {
            None => Ok(default.into()),
            Some(value) => value
                .as_str()
                .map(Into::into)
                .ok_or_else(|| self.wrong(key, "a text")),
        }
    }

    /// A list of texts, if present.
    pub fn texts_opt(&self, key: &str) -> Result<Option<Vec<String>>, CheckpointError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let texts = value.as_array().and_then(|list| {
            list.iter()
                .map(|text| text.as_str().map(Into::into))
                .collect()
        });
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.wrong(key, "a list of texts")),
        }
    }

    /// A nested object, if present.
    pub fn section(&self, key: &str) -> Result<Option<Self>, CheckpointError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let values = value
            .as_object()
            .ok_or_else(|| self.wrong(key, "an object"))?;
        Ok(Some(Self {
            path: self.path.clone(),
            prefix: format!("{}{key}.", self.prefix),
            values: values.clone(),
        }))
    }

    /// The error that says that the value of `key` is not what was expected.
    #[must_use]
    pub fn wrong(&self, key: &str, expected: impl Into<String>) -> CheckpointError {
        let found = self
            .value(key)
            .map_or_else(|| "missing".into(), |value| shortened(&value.to_string()));
        CheckpointError::Config {
            path: self.path.clone(),
            key: format!("{}{key}", self.prefix),
            found,
            expected: expected.into(),
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }
}

/// Enough of a value to recognise it in an error.
fn shortened(text: &str) -> String {
    const CHARS: usize = 60;
    match text.char_indices().nth(CHARS) {
        None => text.into(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
