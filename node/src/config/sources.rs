//! Collects the layers, refuses unknown keys, and loads the configuration.
//!
//! The environment comes in as an argument: nothing here asks the process for it, so every rule is
//! tested without touching the process.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    check, file,
    reader::{Given, Layers, Origin, Reader, Section, Setting},
    schema::Config,
    suggest,
    value::Raw,
};

/// Variables that are ours begin like this.
const VARIABLE_PREFIX: &str = "THALAMUS_";
/// Names the configuration file.
const FILE_VARIABLE: &str = "THALAMUS_CONFIG";
/// What tests tell each other; no setting.
const TEST_PREFIX: &str = "THALAMUS_TEST_";
/// Where `transport` looks for the UCX library first: it must know before any setting is read.
const UCX_VARIABLE: &str = "THALAMUS_UCX_DIR";
/// Read if it exists and no other file is named.
const FILE_DEFAULT: &str = "thalamus.toml";

/// One value of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As it was written: `--listen`.
    pub flag: String,
    /// The setting it sets: `gateway.listen`.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Where settings come from. The default is nowhere: every setting has its default.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The command line.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The environment of this process, with what the command line says. The file is the one given, else
    /// the one that `THALAMUS_CONFIG` names, else `./thalamus.toml` if there is one.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
        let found = || Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists());
        Self {
            file: file.or(named).or_else(found),
            variables,
            flags,
        }
    }
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every setting with its value and origin, in the table's order.
    pub settings: Vec<Setting>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Loads the configuration.
///
/// # Errors
/// [`ConfigError`] with one line for each unknown key, refused value and contradiction.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let known: BTreeSet<_> = settings().into_iter().map(|setting| setting.key).collect();
    let mut problems = Vec::new();
    let mut layers = Layers::new();
    if let Some(path) = &sources.file {
        read_file(path, &known, &mut layers, &mut problems);
    }
    read_variables(&sources.variables, &known, &mut layers, &mut problems);
    read_flags(&sources.flags, &known, &mut layers, &mut problems);

    let mut reader = Reader::new(&layers);
    let config = Config::read("", &mut reader);
    problems.append(&mut reader.problems);
    let settings = reader.settings;
    if let Some(config) = &config {
        problems.append(&mut check::contradictions(config, &settings));
    }
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded {
            config,
            settings,
            file: sources.file.clone(),
        }),
        _ => Err(ConfigError(problems)),
    }
}

/// Every setting with its default.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let layers = Layers::new();
    let mut reader = Reader::new(&layers);
    Config::read("", &mut reader).expect("a test reads every default");
    reader.settings
}

/// The variable of a setting: `gateway.listen` is `THALAMUS_GATEWAY_LISTEN`.
pub(super) fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replace('.', "_").to_uppercase())
}

fn read_file(
    path: &Path,
    known: &BTreeSet<String>,
    layers: &mut Layers,
    problems: &mut Vec<String>,
) {
    let read = fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))
        .and_then(|text| file::flatten(path, &text));
    match read {
        Ok(values) => {
            for (key, given) in values {
                put(key, given, known, layers, problems);
            }
        }
        Err(problem) => problems.push(problem),
    }
}

fn read_variables(
    variables: &[(String, String)],
    known: &BTreeSet<String>,
    layers: &mut Layers,
    problems: &mut Vec<String>,
) {
    let names: Vec<_> = known.iter().map(|key| (variable(key), key)).collect();
    for (name, value) in variables
        .iter()
        .filter(|(name, value)| is_ours(name, value))
    {
        match names.iter().find(|(known, _)| known == name) {
            Some((_, key)) => {
                let raw = Raw::Text(value.clone());
                let origin = Origin::Variable(name.clone());
                layers.insert((*key).clone(), Given { raw, origin });
            }
            None => {
                let near = suggest::nearest(name, names.iter().map(|(name, _)| name.as_str()));
                problems.push(unknown(name, "no setting has this variable", near));
            }
        }
    }
}

fn read_flags(
    flags: &[Flag],
    known: &BTreeSet<String>,
    layers: &mut Layers,
    problems: &mut Vec<String>,
) {
    for flag in flags {
        let given = Given {
            raw: Raw::Text(flag.value.clone()),
            origin: Origin::Flag(flag.flag.clone()),
        };
        put(flag.key.clone(), given, known, layers, problems);
    }
}

fn put(
    key: String,
    given: Given,
    known: &BTreeSet<String>,
    layers: &mut Layers,
    problems: &mut Vec<String>,
) {
    if known.contains(&key) {
        layers.insert(key, given);
    } else if known
        .iter()
        .any(|name| name.starts_with(&format!("{key}.")))
    {
        problems.push(format!("{}: {key} is a section, not a value", given.origin));
    } else {
        let near = suggest::nearest(&key, known.iter().map(String::as_str));
        let where_and_what = format!("{}: unknown setting", given.origin);
        problems.push(unknown(&where_and_what, &key, near));
    }
}

fn unknown(what: &str, detail: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{what} {detail}; did you mean {near}?"),
        None => format!("{what} {detail}; `thalamus config print` lists all of them"),
    }
}

fn is_ours(name: &str, value: &str) -> bool {
    name.starts_with(VARIABLE_PREFIX)
        && ![FILE_VARIABLE, UCX_VARIABLE].contains(&name)
        && !name.starts_with(TEST_PREFIX)
        && !is_kubernetes_link(name, value)
}

/// Kubernetes puts `THALAMUS_PORT=tcp://...`, `THALAMUS_SERVICE_HOST` and the like into every pod beside a
/// service that is called `thalamus` or `thalamus-something`.
fn is_kubernetes_link(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}
