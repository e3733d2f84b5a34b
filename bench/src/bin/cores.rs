//! What the hot paths of the cores cost, in nanoseconds: `cores [NAME ...]`.
//!
//! Each case runs for some rounds and says the median of them with its quartiles. It counts CPU time and never the
//! time in which others had the core, so that a busy machine disturbs caches only.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench::{process, random::Random, spread::Spread};
use bus_schemas::{
    Attempt, Epoch, Item, Letter, Meta, NodeId, NodeRef, Placement, Record, RequestId, RequestSpec,
    Roles, Sampling, Stops, decode, encode,
    messages::{
        Admit, Beat, Bound, Change, Intake, Load, Notice, Pass, Promised, Reserve, SlotRef, Stream,
        Tokens,
    },
};
use engine::text::TextModel;
use logic::{
    Core, Micros,
    batch::{Drawn, StepPlan, StepResult},
    hash::{seed, sequence_hashes},
    kv::{Pool, Seal},
    place::{Ask, Candidate, KvIndex, NodeLoad, Prompt, choose},
    role::{
        router::{self, Router},
        worker::{self, Worker},
    },
};

const ROUNDS: usize = 5;
/// A round takes at least this much CPU time: the kernel counts it in ticks of some milliseconds.
const ROUND_NS: u64 = 60_000_000;
/// A thread that runs is counted within a tick, on a busy machine within some turns of the others.
const CLOCK_WITHIN: Duration = Duration::from_secs(5);
const BLOCK_TOKENS: u32 = 16;
const MODEL: &str = "m";
/// Blocks of a sequence and events of a notice, as the peers' index was measured.
const SEQUENCE: usize = 1024;
const EVENT: usize = 16;
const RESIDENT: usize = 1_000_000;
const NODES: usize = 1000;
/// Nodes that hold blocks in the index's cases, as the peers' index was measured.
const HOLDERS: usize = 8;
const ROWS: u32 = 256;
/// Enough that no row of the worker's case ever waits for memory.
const WORKER_SLOTS: u32 = 300_000;
const MINUTE_US: u64 = 60_000_000;

/// Name and program of a case.
type Case = (&'static str, fn() -> Result<()>);

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let cases: [Case; 6] = [
        ("hash", hashing),
        ("index", index),
        ("choose", choosing),
        ("pool", pool),
        ("envelope", envelope),
        ("worker", worker_step),
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
fn report(what: &str, per: &str, count: usize, mut work: impl FnMut()) {
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

fn index() -> Result<()> {
    let nodes: Vec<NodeId> = (0..HOLDERS).map(node_id).collect::<Result<_>>()?;
    let mut random = Random::new(5);
    let sequences: Vec<Vec<u64>> = (0..RESIDENT / SEQUENCE)
        .map(|_| (0..SEQUENCE).map(|_| random.next()).collect())
        .collect();
    let fill = |index: &mut KvIndex| {
        for (at, sequence) in sequences.iter().enumerate() {
            for hash in sequence {
                index.store(nodes[at % HOLDERS], *hash);
            }
        }
    };
    let mut full = KvIndex::default();
    let begun = process::thread_cpu_ns();
    fill(&mut full);
    let each = (process::thread_cpu_ns() - begun) as f64 / full.len() as f64;
    println!("| KV index, store up to 1,000,000 blocks | {each:.0} | block |");
    for length in [512, SEQUENCE] {
        let mut at = 0;
        report(
            &format!("KV index, random resident walk of {length} blocks"),
            "walk",
            200,
            || {
                for _ in 0..200 {
                    at = (at + 379) % sequences.len();
                    black_box(full.walk(&sequences[at][..length]));
                }
            },
        );
    }
    report(
        "KV index, the same resident walk of 512 blocks again",
        "walk",
        200,
        || {
            for _ in 0..200 {
                black_box(full.walk(&sequences[7][..512]));
            }
        },
    );
    let absent: Vec<u64> = (0..512).map(|_| random.next()).collect();
    report("KV index, miss of 512 blocks", "walk", 1000, || {
        for _ in 0..1000 {
            black_box(full.walk(black_box(&absent)));
        }
    });
    report(
        "KV index, apply 16 stored and 16 removed",
        "block",
        2 * EVENT,
        || {
            for hash in &absent[..EVENT] {
                full.store(nodes[0], *hash);
            }
            for hash in &absent[..EVENT] {
                full.remove(nodes[0], *hash);
            }
        },
    );
    Ok(())
}

fn choosing() -> Result<()> {
    let mut random = Random::new(9);
    let nodes: Vec<NodeRef> = (0..NODES).map(node).collect::<Result<_>>()?;
    let candidates: Vec<Candidate> = nodes
        .iter()
        .map(|me| Candidate {
            me: *me,
            decode: true,
            prefill: true,
            load: NodeLoad {
                load: load(random.below(200) as u32),
                booked_tokens: random.below(4096),
                booked: 1,
                booked_blocks: 16,
            },
            unreachable: Vec::new(),
        })
        .collect();
    let overlap: BTreeMap<NodeId, u32> = nodes
        .iter()
        .step_by(10)
        .map(|n| (n.node, random.below(60) as u32))
        .collect();
    let ask = Ask {
        prompt: Prompt {
            tokens: 1024,
            output: 200,
        },
        blocks_least: 65,
        overlap: &overlap,
        block_tokens: BLOCK_TOKENS,
        local_prefill_max: 512,
        avoid: &[],
        alone: false,
        random: 4,
    };
    report(
        "choose among 1,000 nodes, 100 with overlap",
        "choice",
        20,
        || {
            for _ in 0..20 {
                black_box(choose(black_box(&candidates), &ask));
            }
        },
    );
    for count in [HOLDERS, 64, NODES] {
        decision(count)?;
    }
    Ok(())
}

/// The whole decision: hash, look up, choose, book, be promised, be told that it is covered.
fn decision(count: usize) -> Result<()> {
    const BATCH: u128 = 50;
    let mut router = Router::new(router::Config::new(node(9999)?, 512));
    let workers: Vec<NodeRef> = (0..count).map(node).collect::<Result<_>>()?;
    let gateway = node(8888)?;
    let mut out = Vec::new();
    let now = Micros(MINUTE_US);
    for worker in &workers {
        let meta = Meta::node(*worker, NodeRef::NONE);
        router.handle(now, router::Input::Letter(meta, beat().into()), &mut out);
    }
    let mut noted: BTreeMap<NodeRef, u64> = BTreeMap::new();
    let mut request = 0u128;
    let mut placed = 0;
    let title = format!("router, whole decision on 1,024 tokens, {count} nodes");
    report(&title, "request", BATCH as usize, || {
        for _ in 0..BATCH {
            request += 1;
            let meta = meta(gateway, node(9999).expect("a valid name"), request);
            out.clear();
            let admit = Admit {
                spec: spec(request, 1024),
                ..admit_of(request)
            };
            router.handle(now, router::Input::Letter(meta, admit.into()), &mut out);
            let Some((owner, placement)) = reserved(&out) else {
                continue;
            };
            placed += 1;
            let number = noted.entry(owner).or_default();
            *number += 1;
            let covered = Change::Covered {
                request: RequestId(request),
                attempt: Attempt(1),
                placement,
            };
            let told = Promised {
                placement,
                router: NodeRef::NONE,
                blocks: 80,
            };
            let from = Meta {
                from: owner,
                ..meta
            };
            router.handle(now, router::Input::Letter(from, told.into()), &mut out);
            let notice = Notice {
                first: *number,
                changes: vec![covered],
            };
            let from = Meta::node(owner, NodeRef::NONE);
            router.handle(now, router::Input::Letter(from, notice.into()), &mut out);
        }
    });
    ensure!(placed == request, "only {placed} of {request} were placed");
    Ok(())
}

fn reserved(effects: &[router::Effect]) -> Option<(NodeRef, Placement)> {
    effects.iter().find_map(|effect| match effect {
        router::Effect::Send(outgoing) => match &outgoing.message {
            bus_schemas::messages::AnyMessage::Reserve(r) => Some((outgoing.meta.to, r.placement)),
            _ => None,
        },
        router::Effect::Probe(_) | router::Effect::Note(_) => None,
    })
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

/// One step of 256 decoding rows: result in, tokens and next plan out.
fn worker_step() -> Result<()> {
    let me = node(1)?;
    let (router, gateway) = (node(2)?, node(3)?);
    let mut worker = Worker::new(worker_config(me));
    let mut out = Vec::new();
    let mut now = Micros(MINUTE_US);
    for request in 1..=u128::from(ROWS) {
        let placement = Placement(1);
        let admit = Admit {
            spec: spec(request, 64),
            ..admit_of(request)
        };
        let reserve = Reserve {
            placement,
            gateway,
            prefill: None,
            admit,
        };
        worker.handle(now, letter(meta(router, me, request), reserve), &mut out);
        worker.handle(
            now,
            letter(meta(gateway, me, request), Bound { placement }),
            &mut out,
        );
    }
    let mut steps = 0;
    let mut plan = next_plan(&mut out).context("bound requests are run")?;
    while plan.rows.len() < ROWS as usize || plan.rows.iter().any(|r| r.tokens.len() > 1) {
        steps += 1;
        ensure!(
            steps < 1000,
            "only {} rows after {steps} steps",
            plan.rows.len()
        );
        worker.handle(now, worker::Input::Stepped(result(&plan)), &mut out);
        plan = next_plan(&mut out).context("a step follows")?;
    }
    let mut plan = Some(plan);
    report("worker, one step of 256 decoding rows", "step", 10, || {
        for _ in 0..10 {
            now = now.after(20);
            let Some(done) = plan.take() else { return };
            out.clear();
            worker.handle(now, worker::Input::Stepped(result(&done)), &mut out);
            plan = next_plan(&mut out);
        }
    });
    let rows = plan.map_or(0, |p| p.rows.len());
    ensure!(rows == ROWS as usize, "{rows} rows are left");
    Ok(())
}

fn letter(meta: Meta, message: impl Into<bus_schemas::messages::AnyMessage>) -> worker::Input {
    worker::Input::Letter(meta, message.into())
}

fn next_plan(out: &mut Vec<worker::Effect>) -> Option<StepPlan> {
    let plan = out.drain(..).find_map(|effect| match effect {
        worker::Effect::Step(plan) => Some(plan),
        _ => None,
    });
    out.clear();
    plan
}

fn result(plan: &StepPlan) -> StepResult {
    let drawn = || Drawn {
        id: 65,
        logprob: 0.0,
        top: Vec::new(),
    };
    let rows = plan
        .rows
        .iter()
        .map(|row| row.draws.iter().map(|_| drawn()).collect());
    StepResult {
        number: plan.number,
        rows: rows.collect(),
        elapsed_us: 100,
    }
}

fn worker_config(me: NodeRef) -> worker::Config {
    worker::Config {
        me,
        roles: Roles::WORKER,
        model: MODEL.to_owned(),
        card: 1,
        slots: WORKER_SLOTS,
        quarantined: Vec::new(),
        block_tokens: BLOCK_TOKENS,
        context_tokens: 32_768,
        vocabulary: TextModel::byte_level("script/hash").vocabulary(),
        fabric: Vec::new(),
        admin: String::new(),
        step_tokens_max: 2048,
        chunk_tokens_max: 512,
        rows_max: ROWS as usize,
        jobs_max: 1024,
        expected_output: 256,
        drill_preempt_after: None,
        pass: Pass {
            a: 100.0,
            c: 1.0,
            d: 1.0,
            e: 1.0,
        },
        secret: [7; 32],
    }
}

fn spec(request: u128, prompt: u32) -> RequestSpec {
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
    }
}

fn admit_of(request: u128) -> Admit {
    Admit {
        spec: spec(request, 1),
        emitted: vec![vec![]],
        ended: vec![],
        avoid: vec![],
        alone: false,
    }
}

fn beat() -> Beat {
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

fn load(running: u32) -> Load {
    Load {
        running,
        context_tokens: u64::from(running) * 512,
        blocks_total: 1_000_000,
        blocks_free: 1_000_000,
        block_tokens: BLOCK_TOKENS,
        ..Load::default()
    }
}

fn meta(from: NodeRef, to: NodeRef, request: u128) -> Meta {
    Meta {
        from,
        to,
        request: RequestId(request),
        attempt: Attempt(1),
        remaining_us: MINUTE_US,
    }
}

fn node_id(number: usize) -> Result<NodeId> {
    Ok(NodeId::new(&format!("node-{number}"))?)
}

fn node(number: usize) -> Result<NodeRef> {
    Ok(NodeRef {
        node: node_id(number)?,
        epoch: Epoch(1),
    })
}
