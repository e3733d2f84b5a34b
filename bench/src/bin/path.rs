//! What gateway, router and bus add over the engine alone: `path [ROUNDS] [SECONDS] [LOAD ...]`.
//!
//! Build `node` with the same profile first. Each round runs every load on the engine alone and on every
//! cluster in turn, all alive throughout, so that the machine's noise falls on all of them. It never drops a round.

use std::time::Duration;

use anyhow::{Context, Result};
use bench::{
    alone,
    load::{self, LOADS, Load, Speech, Target},
    table::{Sample, print},
    up::{CLUSTERS, Cost, Up},
};

const ROUNDS: u64 = 5;
const SECONDS: f64 = 1.5;
/// Between two looks at memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Enough for every load, so that memory is no bound.
const COMMON: [&str; 4] = ["--model", load::MODEL, "--kv-blocks", "16384"];

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
                let seen = load::run(&target(up), *load, time, round + 1).await;
                let seen =
                    seen.with_context(|| format!("{} on {}", load.name, CLUSTERS[number].0))?;
                let cpu_us = up.cpu_us()?.since(before);
                samples[number + 1][at].push(Sample { seen, cpu_us });
            }
        }
        eprintln!("round {} of {rounds} is over", round + 1);
    }
    let ours = CLUSTERS.iter().map(|(name, _)| *name);
    let names: Vec<String> = std::iter::once("engine alone")
        .chain(ours)
        .map(String::from)
        .collect();
    for (at, load) in loads.iter().enumerate() {
        let samples: Vec<&[Sample]> = samples.iter().map(|of| of[at].as_slice()).collect();
        print(*load, &names, &samples);
    }
    for ((name, _), up) in CLUSTERS.iter().zip(&clusters) {
        println!("resident at the end, KiB: {name}: {:?}", up.resident_kib()?);
    }
    Ok(())
}

fn target(up: &Up) -> Target {
    Target {
        http: up.http,
        model: load::MODEL.to_owned(),
        speech: Speech::Letters,
        acknowledges_at_once: false,
    }
}

/// Memory that streams cost: from one stream to 256.
async fn memory(name: &str, up: &Up, time: Duration) -> Result<()> {
    load::run(&target(up), LOADS[0], time / 2, 0).await?;
    let idle = up.resident_kib()?;
    let many = LOADS[2];
    let to = target(up);
    let work = tokio::spawn(async move { load::run(&to, many, time, 0).await });
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
