//! Turns layers of raw values into typed settings, and remembers where each came from.
//!
//! It never stops at the first problem: a person wants to hear of all of them at once.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::value::{Raw, Rule, Value};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// A line of a file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What a setting's flag looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Needs no value.
    Switch,
    /// Has one value.
    One,
    /// May be repeated, or hold commas.
    Many,
}

/// One setting, as it was resolved.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its full name: `gateway.listen`.
    pub key: String,
    /// What it does, one or more sentences.
    pub help: String,
    /// What is allowed, in words.
    pub allowed: String,
    /// Its default as text; empty is not set.
    pub default: &'static str,
    /// What its flag looks like.
    pub shape: Shape,
    /// Its value as TOML; none if it is not set or was refused.
    pub value: Option<String>,
    /// Where that came from.
    pub origin: Origin,
}

/// One value of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The values that win, by key.
pub(super) type Layers = BTreeMap<String, Given>;

/// A struct of settings: implemented by the table of `schema`.
pub(super) trait Section: Sized {
    /// Reads every field below `prefix`; none if one was refused.
    fn read(prefix: &str, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Reads settings one after another.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            settings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reads the setting `key`; a refusal becomes a problem.
    pub(super) fn setting<T: Value>(
        &mut self,
        key: String,
        help: &str,
        default: &'static str,
        rule: Rule<T>,
    ) -> Option<T> {
        let fallback = Given {
            raw: Raw::Text(default.to_owned()),
            origin: Origin::Default,
        };
        let given = self.layers.get(&key).unwrap_or(&fallback);
        let value = T::read(&given.raw).filter(|value| (rule.holds)(value));
        if value.is_none() {
            self.problems.push(refusal::<T>(&key, given, &rule.allowed));
        }
        self.settings.push(Setting {
            key,
            help: help.trim().to_owned(),
            allowed: rule.allowed,
            default,
            shape: shape::<T>(),
            value: value.as_ref().and_then(T::show),
            origin: given.origin.clone(),
        });
        value
    }
}

fn refusal<T: Value>(key: &str, given: &Given, allowed: &str) -> String {
    let shown = if T::SECRET {
        "the value".to_owned()
    } else {
        given.raw.shown()
    };
    format!(
        "{}: {shown} is not allowed for {key}; allowed is {allowed}",
        given.origin
    )
}

fn shape<T: Value>() -> Shape {
    match (T::SWITCH, T::LIST) {
        (true, _) => Shape::Switch,
        (false, true) => Shape::Many,
        (false, false) => Shape::One,
    }
}

/// `a.b` of `a` and `b`; `b` at the top.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}
