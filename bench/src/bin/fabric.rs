//! How fast takes are beside memcpy and `ucx_perftest`: `fabric [shm|ucx|memory] [KiB]`.
//!
//! Owner and reader live in one process, their memory committed. Each round takes scattered blocks without sums, copies as
//! many by memcpy, from random cold slots to random cold slots, takes as many with sums of all, and copies one slot again
//! and again; ratios are of one round each. Sums at the owner are taken once, before, as a worker takes them when it exports. `ucx_perftest`, where it is installed, runs before and after, with the same
//! transport and size. It never counts the first round, which connects and touches memory for the first time.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bench::{random::Random, spread::Spread};
use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, FabricKind, MemNetwork, Piece, Take,
    UcxOptions, start,
};

/// Larger than any cache, so that blocks are cold.
const POOL_BYTES: usize = 512 << 20;
/// Bytes of one take: a prompt of 1024 tokens of a mid-size model.
const TAKE_BYTES: usize = 64 << 20;
const ROUNDS: usize = 15;
/// A block of a small model.
const BLOCK_KIB: usize = 64;
/// Messages of one run of `ucx_perftest`: one take's bytes at 64 KiB, some times over.
const PERF_MESSAGES: &str = "5000";
const PERF_RUNS: usize = 3;
/// Where it listens; any port that is free will do.
const PERF_PORT: u16 = 13_473;
/// It needs this long to listen.
const PERF_STARTS: Duration = Duration::from_millis(700);
const TICKET: Ticket = Ticket([1; 16]);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let kind = args.next();
    let kib: usize = args
        .next()
        .map_or(Ok(BLOCK_KIB), |text| text.parse())
        .context("KiB of a block")?;
    let kinds = kind.as_deref().map_or(vec!["shm", "ucx"], |one| vec![one]);
    let busy = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average before: {}", busy().trim());
    for kind in &kinds {
        measure(kind, kib)?;
    }
    println!("load average after: {}", busy().trim());
    if kinds.contains(&"ucx") {
        match perftest(kib)? {
            Some(rate) => println!("ucx_perftest, ucp_am_bw over tcp, {kib} KiB, GB/s: {rate}"),
            None => println!(
                "ucx_perftest is not installed (Debian: ucx-utils); nothing to compare ucx with"
            ),
        }
    }
    Ok(())
}

fn measure(name: &str, kib: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let network = MemNetwork::default();
    let kind = match name {
        "memory" => FabricKind::Memory(network),
        "shm" => FabricKind::Shm {
            dir: dir.path().join("fabric"),
        },
        "ucx" => FabricKind::Ucx(UcxOptions::default()),
        other => bail!("no fabric is called {other}"),
    };
    let slot_bytes = kib * 1024;
    let slots = u32::try_from(POOL_BYTES / slot_bytes)?;
    let plain = Pair::new(&kind, "plain", slots, slot_bytes, Checks::Off)?;
    let summed = Pair::new(&kind, "summed", slots, slot_bytes, Checks::All)?;
    let (source, mut target) = (vec![1u8; POOL_BYTES], vec![2u8; POOL_BYTES]);
    let mut random = Random::new(1);
    let mut scatter = || scatter(&mut random, slots, TAKE_BYTES / slot_bytes);
    let (mut takes, mut sums, mut copies, mut hot) = (vec![], vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        takes.push(plain.take(round as u64, scatter())?);
        let pieces = scatter();
        let began = Instant::now();
        for piece in &pieces {
            copy(
                &source,
                piece.from.slot,
                &mut target,
                piece.to.slot,
                slot_bytes,
            );
        }
        std::hint::black_box(&mut target); // or nobody reads it, and the copy is left out
        copies.push(rate(began));
        sums.push(summed.take(round as u64, scatter())?);
        hot.push(again(&source, &mut target, slot_bytes));
    }
    let [takes, sums, copies, hot] = [takes, sums, copies, hot].map(|mut rates| rates.split_off(1));
    let ratio = |of: &[f64], to: &[f64]| Spread::of(of.iter().zip(to).map(|(of, to)| of / to));
    println!(
        "{name}, {kib} KiB blocks, of cold memcpy {}, with all sums {} of without",
        ratio(&takes, &copies),
        ratio(&sums, &takes)
    );
    let [takes, sums, copies, hot] = [takes, sums, copies, hot].map(Spread::of);
    println!("  GB/s: take {takes}, with all sums {sums}, cold memcpy {copies}, hot {hot}");
    Ok(())
}

/// An owner that lets a reader take everything.
struct Pair {
    owner: NodeRef,
    reader: Arc<dyn Fabric>,
    events: Receiver<FabricEvent>,
    _owner: Arc<dyn Fabric>,
}

impl Pair {
    fn new(
        kind: &FabricKind,
        name: &str,
        slots: u32,
        slot_bytes: usize,
        checks: Checks,
    ) -> Result<Self> {
        let (owner, _) = config(&format!("{name}-owner"), slots, slot_bytes, checks)?;
        let (reader, events) = config(&format!("{name}-reader"), slots, slot_bytes, checks)?;
        let (from, to) = (owner.me, reader.me);
        let owner = start(kind.clone(), owner)?;
        let reader = start(kind.clone(), reader)?;
        owner.export(Export {
            ticket: TICKET,
            seq: 0,
            audience: to,
            slots: (0..slots).map(slot).collect(),
        });
        reader.know(from, &owner.card());
        Ok(Self {
            owner: from,
            reader,
            events,
            _owner: owner,
        })
    }

    /// The rate of one take.
    fn take(&self, id: u64, pieces: Vec<Piece>) -> Result<f64> {
        let began = Instant::now();
        self.reader.take(Take {
            id,
            ticket: TICKET,
            seq: 0,
            owner: self.owner,
            pieces,
            timeout: Duration::from_secs(30),
        });
        wait(&self.events, id)?;
        Ok(rate(began))
    }
}

/// The rate of copying one block again and again, which the cache holds.
fn again(source: &[u8], target: &mut [u8], slot_bytes: usize) -> f64 {
    let began = Instant::now();
    for _ in 0..TAKE_BYTES / slot_bytes {
        copy(source, 0, target, 0, slot_bytes);
        std::hint::black_box(&mut *target);
    }
    rate(began)
}

fn config(
    name: &str,
    slots: u32,
    slot_bytes: usize,
    checks: Checks,
) -> Result<(FabricConfig, Receiver<FabricEvent>)> {
    let region = Region::new(slots, slot_bytes)?;
    region.commit()?;
    for slot in 0..slots {
        region.write(slot, 0, &vec![slot as u8; slot_bytes]);
    }
    let (sender, events) = channel();
    let node = NodeId::new(name)?;
    let epoch = Epoch(1);
    let config = FabricConfig {
        me: NodeRef { node, epoch },
        region,
        checks,
        sink: Arc::new(move |event| drop(sender.send(event))),
    };
    Ok((config, events))
}

fn wait(events: &Receiver<FabricEvent>, id: u64) -> Result<()> {
    loop {
        match events.recv_timeout(Duration::from_secs(60))? {
            FabricEvent::Taken { result, .. } => drop(result?),
            FabricEvent::Settled { id: of } if of == id => return Ok(()),
            FabricEvent::Settled { .. } | FabricEvent::Progress { .. } => {}
        }
    }
}

/// Copies a block as a plain program would.
fn copy(source: &[u8], from: u32, target: &mut [u8], to: u32, bytes: usize) {
    let (from, to) = (from as usize * bytes, to as usize * bytes);
    target[to..to + bytes].copy_from_slice(&source[from..from + bytes]);
}

fn scatter(random: &mut Random, slots: u32, count: usize) -> Vec<Piece> {
    let mut any = || slot(u32::try_from(random.below(u64::from(slots))).expect("below slots"));
    (0..count)
        .map(|_| Piece {
            from: any(),
            to: any(),
        })
        .collect()
}

fn slot(slot: u32) -> SlotRef {
    SlotRef {
        slot,
        generation: 0,
    }
}

fn rate(began: Instant) -> f64 {
    TAKE_BYTES as f64 / began.elapsed().as_secs_f64() / 1e9
}

/// What `ucx_perftest` reaches between two processes over the same transport; none without it.
fn perftest(kib: usize) -> Result<Option<Spread>> {
    let size = (kib * 1024).to_string();
    let mut rates = Vec::new();
    for run in 0..PERF_RUNS {
        let port = (PERF_PORT + run as u16).to_string();
        let server = perf(&["-p", &port]).spawn();
        let Ok(mut server) = server else {
            return Ok(None);
        };
        std::thread::sleep(PERF_STARTS);
        let args = [
            "127.0.0.1",
            "-p",
            &port,
            "-t",
            "ucp_am_bw",
            "-s",
            &size,
            "-n",
            PERF_MESSAGES,
            "-f",
        ];
        let output = perf(&args).output();
        let _ended_already = server.kill();
        server.wait()?;
        let text = String::from_utf8_lossy(&output?.stdout).into_owned();
        rates.push(overall_rate(&text).with_context(|| format!("ucx_perftest said {text:?}"))?);
    }
    Ok(Some(Spread::of(rates)))
}

fn perf(args: &[&str]) -> Command {
    let mut command = Command::new("ucx_perftest");
    command.args(args).env("UCX_TLS", "tcp");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// GB/s of its last line: messages, three overheads, then average and overall MB/s (2^20 bytes).
fn overall_rate(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("Final:") || line.split_whitespace().count() == 8)?;
    let numbers: Vec<f64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(numbers.get(5)? * f64::from(1 << 20) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overall_rate_of_perftest_is_read() {
        let text = "Final: 5000 2.483 1898.658 2589.107 32.92 1000.00 527 386";
        assert_eq!(overall_rate(text), Some(1.048_576));
        assert_eq!(overall_rate("no such test"), None);
    }
}
