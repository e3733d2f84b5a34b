//! What a router looks up and decides. It never goes through a mailbox.

use std::{collections::BTreeMap, hint::black_box};

use anyhow::{Result, ensure};
use bench::{process, random::Random};
use bus_schemas::{
    Attempt, Meta, NodeId, NodeRef, Placement, RequestId,
    messages::{Admit, AnyMessage, Change, Notice, Promised},
};
use logic::{
    Core, Micros,
    place::{Ask, Candidate, KvIndex, NodeLoad, Prompt, choose},
    role::router::{self, Router},
};

use crate::{
    BLOCK_TOKENS, EVENT, HOLDERS, MINUTE_US, NODES, RESIDENT, SEQUENCE, admit_of, beat, load, meta,
    node, node_id, report, spec,
};

pub(crate) fn index() -> Result<()> {
    let nodes: Vec<NodeId> = (0..HOLDERS).map(node_id).collect::<Result<_>>()?;
    let mut random = Random::new(5);
    let sequences: Vec<Vec<u64>> = (0..RESIDENT / SEQUENCE)
        .map(|_| (0..SEQUENCE).map(|_| random.next()).collect())
        .collect();
    let mut full = filled(&nodes, &sequences)?;
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
    removing(full, &nodes, &sequences);
    Ok(())
}

/// An index that holds everything, and what making it took.
fn filled(nodes: &[NodeId], sequences: &[Vec<u64>]) -> Result<KvIndex> {
    let resident = process::resident_kib(std::process::id())?;
    let begun = process::thread_cpu_ns();
    let mut full = KvIndex::default();
    for (at, sequence) in sequences.iter().enumerate() {
        for hash in sequence {
            full.store(nodes[at % HOLDERS], *hash);
        }
    }
    let blocks = full.len() as f64;
    let each = (process::thread_cpu_ns() - begun) as f64 / blocks;
    println!("| KV index, store up to 1,000,000 blocks | {each:.0} | block |");
    let taken = (process::resident_kib(std::process::id())? - resident) as f64 * 1024.0;
    println!(
        "| KV index, bytes of 1,000,000 blocks: resident {:.1}, counted {:.1} | | block |",
        taken / blocks,
        full.bytes() as f64 / blocks
    );
    Ok(full)
}

/// All that is resident goes, a sequence's last block first, as workers evict.
fn removing(mut full: KvIndex, nodes: &[NodeId], sequences: &[Vec<u64>]) {
    let (blocks, begun) = (full.len(), process::thread_cpu_ns());
    for (at, sequence) in sequences.iter().enumerate() {
        for hash in sequence.iter().rev() {
            full.remove(nodes[at % HOLDERS], *hash);
        }
    }
    let each = (process::thread_cpu_ns() - begun) as f64 / blocks as f64;
    println!("| KV index, remove 1,000,000 blocks | {each:.0} | block |");
}

pub(crate) fn choosing() -> Result<()> {
    let mut random = Random::new(9);
    let mut nodes: Vec<NodeRef> = (0..NODES).map(node).collect::<Result<_>>()?;
    nodes.sort();
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
            AnyMessage::Reserve(r) => Some((outgoing.meta.to, r.placement)),
            _ => None,
        },
        router::Effect::Probe(_) | router::Effect::Note(_) | router::Effect::Fact(_) => None,
    })
}
