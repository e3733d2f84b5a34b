//! How a command ends: the exit codes, and the failures that have one of their own.
//!
//! Codes are part of the interface and never change their meaning. A command that fails in no special way
//! returns any error and exits with 1.

use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It failed. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// The command line or the configuration makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Whoever it talks to is not there. Exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time. Exit code 4.
    #[error("{0}")]
    Timeout(String),
    /// The other side said no. Exit code 5.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// Its exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Timeout(_) => 4,
            Self::Refused(_) => 5,
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        failure.code().into()
    }
}
