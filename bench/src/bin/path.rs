//! What gateway, router and bus add over the engine alone: `path [ROUNDS] [SECONDS] [LOAD ...]`.
//!
//! Build `node` with the same profile first. Each round runs every load on the engine alone and on every
//! cluster in turn, all alive throughout, so that the machine's noise falls on all of them. It never drops a round.

use std::time::Duration;

use anyhow::{Context, Result};
use bench::{
    alone,
    load::{self, LOADS, Load, Seen},
    spread::Spread,
    up::{Cost, Up},
};

const ROUNDS: u64 = 5;
const SECONDS: f64 = 1.5;
/// Between two looks at memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Enough for every load, so that memory is no bound.
const COMMON: [&str; 4] = ["--model", load::MODEL, "--kv-blocks", "16384"];

/// Clusters under measurement: name and arguments.
const CLUSTERS: [(&str, &[&str]); 3] = [
    (
        "one process",
        &["--prefill", "0", "--decode", "0", "--worker", "2"],
    ),
    (
        "processes",
        &[
            "--processes",
            "--prefill",
            "0",
            "--decode",
            "0",
            "--worker",
            "2",
        ],
    ),
    (
        "prefill + decode, shm",
        &["--processes", "--fabric", "shm", "--local-prefill-max", "0"],
    ),
];

/// One load on one cluster in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seen: Seen,
    cpu_us: Cost,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds = args
        .next()
        .map_or(Ok(ROUNDS), |a| a.parse())
        .context("ROUNDS is a number")?;
    let seconds = args
        .next()
        .map_or(Ok(SECONDS), |a| a.parse())
        .context("SECONDS is a number")?;
    let names: Vec<String> = args.collect();
    let time = Duration::from_secs_f64(seconds);
    let loads: Vec<Load> = LOADS
        .into_iter()
        .filter(|load| names.is_empty() || names.iter().any(|name| name == load.name))
        .collect();
    let mut clusters = Vec::new();
    for (name, own) in CLUSTERS {
        let args: Vec<&str> = COMMON.iter().chain(own).copied().collect();
        let up = Up::start(&args)?;
        memory(name, &up, time).await?;
        clusters.push(up);
    }
    let mut samples = vec![vec![Vec::new(); loads.len()]; CLUSTERS.len() + 1];
    for round in 0..rounds {
        for (at, load) in loads.iter().enumerate() {
            let seen = alone::run(*load, time / 4)?;
            samples[0][at].push(Sample {
                seen,
                cpu_us: Cost::default(),
            });
            for (number, up) in clusters.iter().enumerate() {
                let before = up.cpu_us()?;
                let seen = load::run(up.http, *load, time, round + 1).await;
                let seen =
                    seen.with_context(|| format!("{} on {}", load.name, CLUSTERS[number].0))?;
                let cpu_us = up.cpu_us()?.since(before);
                samples[number + 1][at].push(Sample { seen, cpu_us });
            }
        }
        eprintln!("round {} of {rounds} is over", round + 1);
    }
    for (at, load) in loads.iter().enumerate() {
        print(*load, samples.iter().map(|of| of[at].as_slice()));
    }
    for ((name, _), up) in CLUSTERS.iter().zip(&clusters) {
        println!("resident at the end, KiB: {name}: {:?}", up.resident_kib()?);
    }
    Ok(())
}

/// Memory that streams cost: from one stream to 256.
async fn memory(name: &str, up: &Up, time: Duration) -> Result<()> {
    load::run(up.http, LOADS[0], time / 2, 0).await?;
    let idle = up.resident_kib()?;
    let many = LOADS[2];
    let work = tokio::spawn(load::run(up.http, many, time, 0));
    let mut most = idle;
    while !work.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = up.resident_kib()?;
        most.front = most.front.max(now.front);
        most.workers = most.workers.max(now.workers);
    }
    work.await??;
    let added = most.since(idle);
    let each = |kib: u64| kib as f64 / many.connections as f64;
    println!(
        "memory, {name}: gateway's process {} MiB with one stream; {:.1} KiB more a stream at 256 (workers {:.1} KiB)",
        idle.front / 1024,
        each(added.front),
        each(added.workers)
    );
    Ok(())
}

fn print<'a>(load: Load, samples: impl Iterator<Item = &'a [Sample]>) {
    println!();
    println!(
        "`{}`: {} streams, {} tokens in ({} shared), {} out",
        load.name, load.connections, load.prompt, load.shared, load.output
    );
    println!(
        "| | req/s | tokens/s | TTFT p50 ms | TTFT p99 ms | e2e p99 ms | CPU us per request: front, workers, server |"
    );
    println!("|---|---|---|---|---|---|---|");
    let names = std::iter::once("engine alone").chain(CLUSTERS.iter().map(|(name, _)| *name));
    for (name, samples) in names.zip(samples) {
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        let cpu = |part: fn(&Cost) -> u64| {
            Spread::of(
                samples
                    .iter()
                    .map(|s| part(&s.cpu_us) as f64 / s.seen.requests as f64),
            )
            .median
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {:.0}, {:.0}, {:.0} |",
            of(|s| s.seen.requests_per_s),
            of(|s| s.seen.tokens_per_s),
            of(|s| s.seen.first_ms_p50),
            of(|s| s.seen.first_ms_p99),
            of(|s| s.seen.whole_ms_p99),
            cpu(|c| c.front),
            cpu(|c| c.workers),
            cpu(|c| c.server),
        );
    }
}
