//! `thalamus doctor`: one line for everything that a node would use, what is lacking, and what that costs.
//!
//! It never changes anything and never needs the network: what it sends goes from this machine to itself. A thing that is missing degrades a node; a thing
//! that is broken would stop it from starting, and makes the command fail.

mod lanes;
mod machine;
mod parts;
mod setup;

use std::fmt::Write;

use serde::Serialize;

use crate::{cli, exit::Failure};

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Not there; something optional is not available.
    Missing,
    /// A node would refuse to start.
    Broken,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
            Self::Broken => "broken",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What degrades without it, and what to do; empty when it is ok.
    pub advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn not_ok(
        name: &'static str,
        state: State,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

/// Everything, in the order in which a node needs it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The lines.
    pub checks: Vec<Check>,
}

impl Report {
    /// Looks at everything.
    #[must_use]
    pub fn make(settings: &cli::Settings<cli::flags::NoFlags>) -> Self {
        let (configuration, config) = setup::configuration(settings);
        Self {
            checks: [
                vec![configuration],
                machine::checks(),
                parts::checks(&config),
                lanes::checks(&config),
                setup::checks(&config),
            ]
            .concat(),
        }
    }

    /// Whether a node would refuse to start.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Broken)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.checks {
            write!(
                f,
                "{:<8} {:<14} {}",
                check.state.as_str(),
                check.name,
                check.found
            )?;
            if !check.advice.is_empty() {
                write!(f, ": {}", check.advice)?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

/// Runs `thalamus doctor`.
///
/// # Errors
/// [`Failure::Failed`] when something is broken.
pub fn run(args: &cli::Doctor) -> Result<(), Failure> {
    let report = Report::make(&args.settings);
    if args.json {
        let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
        println!("{json}");
    } else {
        print!("{report}");
    }
    if report.is_broken() {
        let error = anyhow::anyhow!("a node with this configuration would not start");
        return Err(Failure::Failed(error));
    }
    Ok(())
}
