//! What the hot paths of the cores cost, in nanoseconds: `cores [NAME ...]`.
//!
//! Each case runs for some rounds and says the median of them with its quartiles. It counts CPU time and never the
//! time in which others had the core, so that a busy machine disturbs caches only.

mod place;
mod step;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bench::{process, spread::Spread};
use bus_schemas::{
    Attempt, Epoch, Item, Letter, Meta, NodeId, NodeRef, Placement, Record, RequestId, RequestSpec,
    Roles, Sampling, Stops, decode, encode,
    messages::{Admit, Beat, Intake, Load, SlotRef, Stream, Tokens},
};
use logic::{
    hash::{seed, sequence_hashes},
    kv::{Pool, Seal},
};

pub(crate) const ROUNDS: usize = 5;
/// A round takes at least this much CPU time: the kernel counts it in ticks of some milliseconds.
pub(crate) const ROUND_NS: u64 = 60_000_000;
/// A thread that runs is counted within a tick, on a busy machine within some turns of the others.
pub(crate) const CLOCK_WITHIN: Duration = Duration::from_secs(5);
pub(crate) const BLOCK_TOKENS: u32 = 16;
pub(crate) const MODEL: &str = "m";
/// Blocks of a sequence and events of a notice, as the peers' index was measured.
pub(crate) const SEQUENCE: usize = 1024;
pub(crate) const EVENT: usize = 16;
pub(crate) const RESIDENT: usize = 1_000_000;
pub(crate) const NODES: usize = 1000;
/// Nodes that hold blocks in the index's cases, as the peers' index was measured.
pub(crate) const HOLDERS: usize = 8;
pub(crate) const ROWS: u32 = 256;
/// Enough that no row of the worker's case ever waits for memory.
pub(crate) const WORKER_SLOTS: u32 = 300_000;
pub(crate) const MINUTE_US: u64 = 60_000_000;

/// Name and program of a case.
type Case = (&'static str, fn() -> Result<()>);

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let cases: [Case; 6] = [
        ("hash", hashing),
        ("index", place::index),
        ("choose", place::choosing),
        ("pool", pool),
        ("envelope", envelope),
        ("worker", step::step),
    ];
    ensure!(
        clock_runs(),
        "/proc/thread-self/schedstat does not count CPU time here"
    );
    println!("| what | CPU ns | per |");
    println!("|---|---|---|");
    for (name, case) in cases {
        if names.is_empty() || names.iter().any(|n| n == name) {
            case()?;
        }
    }
    Ok(())
}

/// Whether CPU time is counted: without it no round would ever end.
fn clock_runs() -> bool {
    let begun = Instant::now();
    while begun.elapsed() < CLOCK_WITHIN {
        if process::thread_cpu_ns() > 0 {
            return true;
        }
    }
    false
}

/// Prints what one operation of `per` costs, if a call of `work` does `count` of them.
pub(crate) fn report(what: &str, per: &str, count: usize, mut work: impl FnMut()) {
    work();
    let costs = (0..ROUNDS).map(|_| {
        let begun = process::thread_cpu_ns();
        let mut done = 0;
        let mut used = 0;
        while used < ROUND_NS {
            work();
            done += count;
            used = process::thread_cpu_ns() - begun;
        }
        used as f64 / done as f64
    });
    println!("| {what} | {} | {per} |", Spread::of(costs));
}

fn hashing() -> Result<()> {
    let tokens: Vec<u32> = (0..16_384).collect();
    let seed = seed("", "");
    report(
        "block and sequence hashes of 16,384 tokens",
        "token",
        tokens.len(),
        || {
            black_box(sequence_hashes(seed, black_box(&tokens), BLOCK_TOKENS));
        },
    );
    Ok(())
}

fn pool() -> Result<()> {
    const BLOCKS: usize = 64;
    let mut pool = Pool::new(16_384, &[]);
    let tokens: Vec<u32> = (0..BLOCKS as u32 * BLOCK_TOKENS).collect();
    let mut salt = 0;
    report(
        "pool: reserve, fill, seal and let go of 64 new blocks",
        "block",
        BLOCKS * 20,
        || {
            for _ in 0..20 {
                salt += 1;
                let hashes = sequence_hashes(salt, &tokens, BLOCK_TOKENS);
                let slots = pool.reserve(BLOCKS).expect("all others are cached");
                store(&mut pool, &slots, &hashes, &tokens, salt);
            }
            black_box(pool.take_changes());
        },
    );
    let hashes = sequence_hashes(salt, &tokens, BLOCK_TOKENS);
    report(
        "pool: find and let go of 64 cached blocks",
        "block",
        BLOCKS * 20,
        || {
            for _ in 0..20 {
                for slot in pool.find(&hashes, &tokens, BLOCK_TOKENS, salt) {
                    pool.unpin(slot);
                }
            }
        },
    );
    let found = pool.find(&hashes, &tokens, BLOCK_TOKENS, salt).len();
    ensure!(found == BLOCKS, "only {found} blocks were found");
    Ok(())
}

fn store(pool: &mut Pool, slots: &[SlotRef], hashes: &[u64], tokens: &[u32], seed: u64) {
    let mut parent = None;
    for ((slot, hash), tokens) in slots
        .iter()
        .zip(hashes)
        .zip(tokens.chunks(BLOCK_TOKENS as usize))
    {
        pool.fill(*slot);
        pool.seal(
            *slot,
            Seal {
                hash: *hash,
                parent,
                seed,
                tokens: tokens.into(),
            },
        );
        parent = Some(*hash);
    }
    for slot in slots.iter().rev() {
        pool.unpin(*slot);
    }
}

fn envelope() -> Result<()> {
    let meta = meta(node(1)?, node(2)?, 7);
    let admit = Letter {
        meta,
        body: Admit {
            spec: spec(7, 1024),
            ..admit_of(7)
        },
    };
    let stream = |request| Stream {
        request: RequestId(request),
        attempt: Attempt(1),
        placement: Placement(1),
        first: 40,
        items: vec![Item::Token(Record {
            choice: 0,
            index: 40,
            id: 65,
            logprob: 0.0,
            top: Vec::new(),
        })],
        cached_tokens: 0,
        last: false,
        failed: false,
    };
    let tokens = Letter {
        meta,
        body: Tokens {
            streams: (0..64).map(stream).collect(),
        },
    };
    let (admit_bytes, token_bytes) = (encode(&admit), encode(&tokens));
    report(
        "envelope: encode Admit of 1,024 tokens",
        "letter",
        200,
        || {
            (0..200).for_each(|_| drop(black_box(encode(black_box(&admit)))));
        },
    );
    report("envelope: decode the same", "letter", 200, || {
        (0..200).for_each(|_| drop(black_box(decode::<Admit>(black_box(&admit_bytes)))));
    });
    report(
        "envelope: encode Tokens of 64 streams, one token each",
        "token",
        200 * 64,
        || {
            (0..200).for_each(|_| drop(black_box(encode(black_box(&tokens)))));
        },
    );
    report("envelope: decode the same", "token", 200 * 64, || {
        (0..200).for_each(|_| drop(black_box(decode::<Tokens>(black_box(&token_bytes)))));
    });
    Ok(())
}

pub(crate) fn spec(request: u128, prompt: u32) -> RequestSpec {
    RequestSpec {
        request: RequestId(request),
        model: MODEL.to_owned(),
        tenant: String::new(),
        salt: String::new(),
        prompt: (0..prompt)
            .map(|at| 97 + (at + request as u32) % 26)
            .collect(),
        choices: 1,
        sampling: Sampling::default(),
        stops: Stops {
            ignore_eos: true,
            ..Stops::default()
        },
        max_tokens: 16_384,
        priority: 0,
        trace: bus_schemas::Trace::default(),
    }
}

pub(crate) fn admit_of(request: u128) -> Admit {
    Admit {
        spec: spec(request, 1),
        emitted: vec![vec![]],
        ended: vec![],
        avoid: vec![],
        alone: false,
    }
}

pub(crate) fn beat() -> Beat {
    Beat {
        roles: Roles::WORKER,
        model: MODEL.to_owned(),
        card: 1,
        intake: Intake::Open,
        notice: 0,
        load: load(0),
        fabric: Vec::new(),
        unreachable: Vec::new(),
        admin: String::new(),
    }
}

pub(crate) fn load(running: u32) -> Load {
    Load {
        running,
        context_tokens: u64::from(running) * 512,
        blocks_total: 1_000_000,
        blocks_free: 1_000_000,
        block_tokens: BLOCK_TOKENS,
        ..Load::default()
    }
}

pub(crate) fn meta(from: NodeRef, to: NodeRef, request: u128) -> Meta {
    Meta {
        from,
        to,
        request: RequestId(request),
        attempt: Attempt(1),
        remaining_us: MINUTE_US,
    }
}

pub(crate) fn node_id(number: usize) -> Result<NodeId> {
    Ok(NodeId::new(&format!("node-{number}"))?)
}

pub(crate) fn node(number: usize) -> Result<NodeRef> {
    Ok(NodeRef {
        node: node_id(number)?,
        epoch: Epoch(1),
    })
}
