//! The one binary's parts: command line, configuration, wiring.
//!
//! Nothing here decides anything about requests or blocks; that is `logic`. Nothing below this floor reads
//! a flag, a variable or a file of settings. Start reading at [`cli`], then [`config`], then [`run`].

pub mod chat;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod ctl;
pub mod doctor;
pub mod exit;
pub mod fabric_choice;
pub mod logging;
pub mod run;
pub mod serve;
pub mod signals;
pub mod tokenize;
pub mod up;

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
