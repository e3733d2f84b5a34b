//! The one binary: reads the command line, runs it, and turns the result into an exit code.
//!
//! Everything it can do is in the library; nothing is decided here.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::main()
}
