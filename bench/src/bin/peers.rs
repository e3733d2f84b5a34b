//! Thalamus beside other servers that run already: every load on each of them in turn, round by round.
//!
//! `bench/peers/dynamo.sh` starts NVIDIA Dynamo and then this. Both sides tokenise with the tokenizer of one folder
//! and run engines that cost no time. It never starts a peer, and never drops a round.

use std::{fs, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use bench::{
    load::{self, LOADS, Load, Target},
    process,
    table::{Sample, print, print_ratios},
    up::{CLUSTERS, Cost, Up},
};
use clap::Parser;

/// An engine that costs no time.
const PROFILE: &str = r#"{"a": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "g": 0.0}"#;
/// What clients call the model of ours.
const NAME: &str = "mock";

/// Measures Thalamus beside peers that run already.
#[derive(Debug, Parser)]
struct Args {
    /// A folder with config.json and tokenizer.json, which the peers serve as well.
    #[arg(long)]
    model: PathBuf,
    /// A peer: NAME=ADDR:PORT=MODEL=FRONT_PIDS=WORKER_PIDS=SERVER_PIDS; process ids with `+` between, the last two may be empty.
    #[arg(long = "peer")]
    peers: Vec<Peer>,
    /// How often every load runs on everything.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Seconds of each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Clients acknowledge at once, which spares a server that leaves Nagle's algorithm on up to 40 ms; ordinary ones do not.
    #[arg(long)]
    quickack: bool,
    /// Loads to run; the peers' four when none is named.
    loads: Vec<String>,
}

/// A server that somebody else started.
#[derive(Clone, Debug)]
struct Peer {
    name: String,
    target: Target,
    front: Vec<u32>,
    workers: Vec<u32>,
    server: Vec<u32>,
}

/// One system under measurement.
enum Side {
    Ours(&'static str, Up),
    Theirs(Peer),
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let [name, http, model, front, workers, server] = parts[..] else {
            anyhow::bail!(
                "a peer has six parts with = between, {text:?} has {}",
                parts.len()
            );
        };
        let http: SocketAddr = http
            .parse()
            .with_context(|| format!("{http:?} is no ADDR:PORT"))?;
        Ok(Self {
            name: name.to_owned(),
            target: Target::words(http, model),
            front: pids(front)?,
            workers: pids(workers)?,
            server: pids(server)?,
        })
    }
}

fn pids(text: &str) -> Result<Vec<u32>> {
    let given = text.split('+').filter(|pid| !pid.is_empty());
    given
        .map(|pid| {
            pid.parse()
                .with_context(|| format!("{pid:?} is no process id"))
        })
        .collect()
}

impl Side {
    fn name(&self) -> String {
        match self {
            Self::Ours(name, _) => format!("thalamus, {name}"),
            Self::Theirs(peer) => peer.name.clone(),
        }
    }

    fn target(&self, acknowledges_at_once: bool) -> Target {
        let target = match self {
            Self::Ours(_, up) => Target::words(up.http, NAME),
            Self::Theirs(peer) => peer.target.clone(),
        };
        Target {
            acknowledges_at_once,
            ..target
        }
    }

    fn sum(&self, of: fn(u32) -> Result<u64>) -> Result<Cost> {
        let trees = |pids: &[u32]| {
            pids.iter()
                .map(|pid| process::tree(*pid, of))
                .sum::<Result<u64>>()
        };
        match self {
            Self::Ours(_, up) => up.sum(of),
            Self::Theirs(peer) => Ok(Cost {
                front: trees(&peer.front)?,
                workers: trees(&peer.workers)?,
                server: trees(&peer.server)?,
            }),
        }
    }

    async fn run(&self, load: Load, time: Duration, round: u64, quickack: bool) -> Result<Sample> {
        let before = self.sum(process::cpu_us)?;
        let seen = load::run(&self.target(quickack), load, time, round).await;
        let seen = seen.with_context(|| format!("{} on {}", load.name, self.name()))?;
        Ok(Sample {
            seen,
            cpu_us: self.sum(process::cpu_us)?.since(before),
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let loads = loads(&args.loads)?;
    let folder = tempfile::tempdir()?;
    let sides = sides(&args, folder.path())?;
    let time = Duration::from_secs_f64(args.seconds);
    println!(
        "load average at the start: {}",
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    let mut samples = vec![vec![Vec::new(); sides.len()]; loads.len()];
    for side in &sides {
        for load in &loads {
            side.run(*load, time / 4, 0, args.quickack).await?;
        }
    }
    for round in 1..=args.rounds {
        for (load, samples) in loads.iter().zip(&mut samples) {
            for (side, samples) in sides.iter().zip(samples) {
                samples.push(side.run(*load, time, round, args.quickack).await?);
            }
        }
        eprintln!("round {round} of {} is over", args.rounds);
    }
    let names: Vec<String> = sides.iter().map(Side::name).collect();
    for (load, samples) in loads.iter().zip(&samples) {
        let samples: Vec<&[Sample]> = samples.iter().map(Vec::as_slice).collect();
        print(*load, &names, &samples);
        print_ratios(&names, &samples);
    }
    println!();
    for side in &sides {
        println!(
            "resident at the end, KiB: {}: {:?}",
            side.name(),
            side.sum(process::resident_kib)?
        );
    }
    Ok(())
}

fn sides(args: &Args, folder: &std::path::Path) -> Result<Vec<Side>> {
    let profile = folder.join("profile.json");
    fs::write(&profile, PROFILE)?;
    let (model, profile) = (
        args.model.display().to_string(),
        profile.display().to_string(),
    );
    let common = [
        "--model",
        &model,
        "--model-name",
        NAME,
        "--profile",
        &profile,
        "--kv-blocks",
        "65536",
    ];
    let mut sides = Vec::new();
    for (name, own) in CLUSTERS {
        let args: Vec<&str> = common.iter().chain(own).copied().collect();
        sides.push(Side::Ours(name, Up::start(&args)?));
    }
    sides.extend(args.peers.iter().cloned().map(Side::Theirs));
    Ok(sides)
}

fn loads(names: &[String]) -> Result<Vec<Load>> {
    let names: Vec<&str> = match names {
        [] => vec!["one", "reqs", "prefix", "tokens"],
        names => names.iter().map(String::as_str).collect(),
    };
    let find = |name: &&str| {
        let load = LOADS.iter().find(|load| load.name == *name);
        load.copied()
            .with_context(|| format!("there is no load {name:?}"))
    };
    names.iter().map(find).collect()
}
