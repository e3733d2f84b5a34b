//! `sim FIRST COUNT [log]`: lives through seeded days and prints what went wrong.
//!
//! It never does anything that the library does not do.

use sim::{day::live, world::Log};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        arguments
            .get(at)
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let (first, count): (u64, u64) = (number(0, 0), number(1, 100));
    let log = arguments.get(2).is_some_and(|a| a == "log");
    for seed in first..first + count {
        let report = live(seed, log.then(printer));
        if !report.faults.is_empty() {
            println!("{report:#?}");
        }
    }
}

fn printer() -> Log {
    Box::new(|line| println!("{line}"))
}
