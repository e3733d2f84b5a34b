//! Which tests met the real thing, and which had to be skipped: so that green never hides "not run".
//!
//! `./x test` names a file in `THALAMUS_TEST_LEDGER`; every call appends one line to it, and the script
//! counts them. Without that variable a skip is still printed. This file never looks for the real thing
//! itself, and uses the standard library alone, so that any crate's tests can include it by path.

use std::{fmt::Display, fs::OpenOptions, io::Write, thread};

/// Names the file that the lines go to.
const LEDGER_ENV: &str = "THALAMUS_TEST_LEDGER";

/// Gives the real `what` (`nats`, `ucx`, `gpu`, ...) to the running test and records that it used it; where
/// it was not found, says so loudly and gives nothing: the test then returns.
///
/// ```no_run
/// # use thalamus_tests::ledger;
/// # fn find() -> Result<&'static str, &'static str> { Ok("nats-server") }
/// let Some(server) = ledger::need("nats", find()) else { return };
/// ```
pub fn need<T, E: Display>(what: &str, found: Result<T, E>) -> Option<T> {
    let test = test_name();
    match found {
        Ok(thing) => {
            append(&format!("real-{what} {test}"));
            Some(thing)
        }
        Err(why) => {
            println!("SKIPPED: {test} needs a real {what}: {why}");
            append(&format!("skipped {what} {test}"));
            None
        }
    }
}

/// `BINARY::TEST`: the harness names each test's thread after the test, and cargo puts a hash behind the
/// binary's name.
fn test_name() -> String {
    let current = thread::current();
    let test = current.name().unwrap_or("unnamed");
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_stem().unwrap_or_default().to_string_lossy();
    let binary = stem.rsplit_once('-').map_or(&*stem, |(name, _)| name);
    format!("{binary}::{test}")
}

/// One write of one short line to a file opened for appending: processes that share it never mix lines.
fn append(line: &str) {
    let Some(path) = std::env::var_os(LEDGER_ENV) else {
        return;
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        panic!(
            "the test ledger {} cannot be written: {error}",
            path.display()
        );
    }
}
