//! Logs: a filter that can be changed while the process runs, lines for people or JSON for programs.
//!
//! It never logs a prompt, an output or a secret; neither does anybody else.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::config::schema::Log;

/// Why levels cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// The filter does not parse.
    #[error(
        "{0:?} is no log filter: {1}; say a target and one of off, error, warn, info, debug, trace"
    )]
    Filter(String, String),
    /// Logging was never set up, or by somebody else.
    #[error("this process's log cannot be changed")]
    Fixed,
}

/// A handle to the filter.
#[derive(Clone, Default)]
pub struct Levels {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    said: Arc<Mutex<String>>,
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Levels")
    }
}

impl Levels {
    /// Changes one target's level, or everybody's with `all`.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn set(&self, target: &str, level: &str) -> Result<(), LevelError> {
        let handle = self.handle.as_ref().ok_or(LevelError::Fixed)?;
        let mut said = self
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = match target {
            "all" => level.to_owned(),
            target => format!("{said},{target}={level}"),
        };
        let filter = filter_of(&text)?;
        handle.reload(filter).map_err(|_| LevelError::Fixed)?;
        *said = text;
        Ok(())
    }
}

/// Said first, so that a filter that names it wins: the cluster's link warns of every `ctl` that leaves.
const QUIET: &str = "ractor_cluster=error";

fn filter_of(text: &str) -> Result<EnvFilter, LevelError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
        .map_err(|e| LevelError::Filter(text.to_owned(), e.to_string()))
}

/// Sets logging up for this process, on standard error.
///
/// # Errors
/// [`LevelError`] if the filter makes no sense.
pub fn init(log: &Log) -> Result<Levels, LevelError> {
    let filter = filter_of(&log.filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let mut lines = fmt::layer().with_writer(std::io::stderr);
    if !std::io::stderr().is_terminal() {
        lines = lines.with_ansi(false);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let done = if log.json {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines.compact()).try_init()
    };
    let said = Arc::new(Mutex::new(log.filter.clone()));
    Ok(Levels {
        handle: done.is_ok().then_some(handle),
        said,
    })
}
