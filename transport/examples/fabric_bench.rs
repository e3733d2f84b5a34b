//! How fast takes are beside memcpy: `cargo run --release -p transport --example fabric_bench -- shm|ucx|memory [KiB]`.
//!
//! Owner and reader live in one process. Each round takes scattered blocks and then copies as many by memcpy, from
//! random cold slots to random cold slots; medians and spreads of both are printed, in GB/s (10^9 bytes).

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Export, FabricConfig, FabricEvent, FabricKind, MemNetwork, Piece, Take, UcxOptions, start,
};

/// Larger than any cache, so that blocks are cold.
const POOL_BYTES: usize = 1 << 30;
/// Bytes of one take: a prompt of 1024 tokens of a mid-size model.
const TAKE_BYTES: usize = 64 << 20;
const ROUNDS: usize = 31;
const TICKET: Ticket = Ticket([1; 16]);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let kind = args.next().context("name a fabric: shm, ucx or memory")?;
    let kib: usize = args
        .next()
        .map_or(Ok(64), |text| text.parse())
        .context("KiB of a block")?;
    let dir = tempfile::tempdir()?;
    let network = MemNetwork::default();
    let kind = || {
        Ok(match kind.as_str() {
            "memory" => FabricKind::Memory(network.clone()),
            "shm" => FabricKind::Shm {
                dir: dir.path().join("fabric"),
            },
            "ucx" => FabricKind::Ucx(UcxOptions::default()),
            other => bail!("no fabric is called {other}"),
        })
    };
    let slot_bytes = kib * 1024;
    let slots = u32::try_from(POOL_BYTES / slot_bytes)?;
    let (owner, _) = config("owner", slots, slot_bytes)?;
    let (reader, events) = config("reader", slots, slot_bytes)?;
    let (source, target) = (Arc::clone(&owner.region), Arc::clone(&reader.region));
    let owner_ref = owner.me;
    let export = Export {
        ticket: TICKET,
        seq: 0,
        audience: reader.me,
        slots: (0..slots).map(slot).collect(),
    };
    let from = start(kind()?, owner)?;
    let to = start(kind()?, reader)?;
    from.export(export);
    to.know(owner_ref, &from.card());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut takes, mut copies) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let pieces = scatter(&mut random, slots, TAKE_BYTES / slot_bytes);
        let began = Instant::now();
        to.take(Take {
            id: round as u64,
            ticket: TICKET,
            seq: 0,
            owner: owner_ref,
            pieces,
            timeout: Duration::from_secs(30),
        });
        wait(&events, round as u64)?;
        takes.push(rate(began));
        let pieces = scatter(&mut random, slots, TAKE_BYTES / slot_bytes);
        let began = Instant::now();
        for piece in &pieces {
            copy(&source, piece.from.slot, &target, piece.to.slot);
        }
        copies.push(rate(began));
    }
    // The first round connects and touches memory for the first time.
    let (takes, copies) = (median(&mut takes[1..]), median(&mut copies[1..]));
    println!(
        "{kib} KiB blocks: take {takes}, memcpy {copies}, ratio {:.2}",
        takes.0 / copies.0
    );
    Ok(())
}

fn config(
    name: &str,
    slots: u32,
    slot_bytes: usize,
) -> Result<(FabricConfig, Receiver<FabricEvent>)> {
    let region = Region::new(slots, slot_bytes)?;
    for slot in 0..slots {
        region.write(slot, 0, &vec![slot as u8; slot_bytes]);
    }
    let (sender, events) = channel();
    let node = NodeId::new(name)?;
    let epoch = Epoch(1);
    let config = FabricConfig {
        me: NodeRef { node, epoch },
        region,
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

/// Copies a slot as a plain program would.
#[allow(unsafe_code)]
fn copy(source: &Region, from: u32, target: &Region, to: u32) {
    // SAFETY: two slots of equal size in two regions that outlive the call; no take is under way.
    unsafe {
        std::ptr::copy_nonoverlapping(source.slot(from), target.slot(to), source.slot_bytes());
    }
}

fn scatter(random: &mut Random, slots: u32, count: usize) -> Vec<Piece> {
    let mut any = || slot(u32::try_from(random.next() % u64::from(slots)).expect("below slots"));
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

/// A median and the quartiles around it.
struct Median(f64, f64, f64);

fn median(rates: &mut [f64]) -> Median {
    rates.sort_by(f64::total_cmp);
    let at = |share: usize| rates[rates.len() * share / 4];
    Median(at(2), at(1), at(3))
}

impl std::fmt::Display for Median {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} GB/s ({:.2} to {:.2})", self.0, self.1, self.2)
    }
}

/// An xorshift generator: the same blocks in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
