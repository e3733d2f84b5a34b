//! The one binary's parts: command line, configuration, wiring.
//!
//! Nothing here decides anything about requests or blocks; that is `logic`. Nothing below this floor reads
//! a flag, a variable or a file of settings. Start reading at [`cli`], then [`config`], then [`run`].

pub mod chat;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod exit;
pub mod run;

use std::process::ExitCode;

use clap::Parser;

/// Runs the command line of this process. Wrong usage ends the process with code 2.
#[must_use]
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.to_string().lines() {
                eprintln!("thalamus: {line}");
            }
            ExitCode::from(&failure)
        }
    }
}
