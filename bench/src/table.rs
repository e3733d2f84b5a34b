//! What was seen of several systems under one load, as a table. It never drops a sample.

use crate::{
    load::{Load, Seen},
    spread::Spread,
    up::Cost,
};

/// One load on one system in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What clients saw.
    pub seen: Seen,
    /// CPU time that it took.
    pub cpu_us: Cost,
}

/// Prints a row for each system; `samples` has a list for each name, in rounds.
pub fn print(load: Load, names: &[String], samples: &[&[Sample]]) {
    println!();
    println!(
        "`{}`: {} streams, {} tokens in ({} shared), {} out",
        load.name, load.connections, load.prompt, load.shared, load.output
    );
    println!(
        "| | req/s | tokens/s | TTFT p50 ms | TTFT p99 ms | e2e p99 ms | CPU us per request: front, workers, server |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, samples) in names.iter().zip(samples) {
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        println!(
            "| {name} | {} | {} | {} | {} | {} | {:.0}, {:.0}, {:.0} |",
            of(|s| s.seen.requests_per_s),
            of(|s| s.seen.tokens_per_s),
            of(|s| s.seen.first_ms_p50),
            of(|s| s.seen.first_ms_p99),
            of(|s| s.seen.whole_ms_p99),
            of(|s| s.each(s.cpu_us.front)).median,
            of(|s| s.each(s.cpu_us.workers)).median,
            of(|s| s.each(s.cpu_us.server)).median,
        );
    }
}

/// Prints how the first system did against each other one: ratios within a round, so that noise of the
/// machine falls on both sides.
pub fn print_ratios(names: &[String], samples: &[&[Sample]]) {
    let (Some((name, others)), Some((ours, theirs))) = (names.split_first(), samples.split_first())
    else {
        return;
    };
    println!("\n| {name} against | req/s | TTFT p50 | CPU of the front | CPU of all |");
    println!("|---|---|---|---|---|");
    for (other, theirs) in others.iter().zip(theirs) {
        let of = |value: fn(&Sample) -> f64| {
            let pairs = ours.iter().zip(theirs.iter());
            Spread::of(pairs.map(|(a, b)| value(a) / value(b)))
        };
        println!(
            "| {other} | {} | {} | {} | {} |",
            of(|s| s.seen.requests_per_s),
            of(|s| s.seen.first_ms_p50),
            of(|s| s.each(s.cpu_us.front)),
            of(|s| s.each(s.cpu_us.front + s.cpu_us.workers + s.cpu_us.server)),
        );
    }
}

impl Sample {
    fn each(&self, total: u64) -> f64 {
        total as f64 / self.seen.requests as f64
    }
}
