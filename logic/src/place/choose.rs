//! The choice: the pair of prefill and decode node, or the decode node alone, that costs least.
//!
//! Nothing is chosen that was to be avoided, takes nothing, or has another card. Ties are broken by a number
//! that the caller draws.

use std::collections::BTreeMap;

use bus_schemas::{NodeId, NodeRef};

use super::cost::{Cost, NodeLoad, Prompt, transfer};

/// Above this many nodes of a kind only the best matches and the least loaded are scored (PLACEMENT section 5).
const SCORE_ALL: usize = 64;
/// How many of each then.
const SHORT_LIST: usize = 8;
/// Candidates kept in an explanation.
const EXPLAINED: usize = 8;

/// A node that may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub me: NodeRef,
    /// May own the request.
    pub decode: bool,
    /// May prefill for others.
    pub prefill: bool,
    /// Its load with bookings.
    pub load: NodeLoad,
    /// Nodes that its fabric cannot reach.
    pub unreachable: Vec<NodeRef>,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The prompt.
    pub prompt: Prompt,
    /// Leading blocks that each node has.
    pub overlap: &'a BTreeMap<NodeId, u32>,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Longest uncached prompt that a decode node prefills itself.
    pub local_prefill_max: u32,
    /// Incarnations not to use.
    pub avoid: &'a [NodeRef],
    /// Prefer a node that runs nothing else.
    pub alone: bool,
    /// Breaks ties.
    pub random: u64,
}

/// One scored possibility.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Who would own it.
    pub decode: NodeRef,
    /// Who would prefill, if another.
    pub prefill: Option<NodeRef>,
    /// Tokens of the prompt that are cached where it would be prefilled.
    pub cached_tokens: u32,
    /// The terms.
    pub cost: Cost,
}

/// What was chosen and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The owner to be.
    pub decode: NodeRef,
    /// Who prefills, if another.
    pub prefill: Option<NodeRef>,
    /// The best possibilities, cheapest first.
    pub explained: Vec<Explanation>,
}

impl Ask<'_> {
    fn cached(&self, node: NodeId) -> u32 {
        let blocks = self.overlap.get(&node).copied().unwrap_or(0);
        (blocks * self.block_tokens).min(self.prompt.tokens.saturating_sub(1))
    }

    fn uncached(&self, node: NodeId) -> u32 {
        self.prompt.tokens - self.cached(node)
    }

    fn blocks(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_tokens.max(1))
    }
}

/// Chooses among nodes of one pool.
#[must_use]
pub fn choose(nodes: &[Candidate], ask: &Ask<'_>) -> Option<Choice> {
    let usable = |n: &&Candidate| !ask.avoid.contains(&n.me);
    let decodes = short_list(
        nodes.iter().filter(|n| n.decode).filter(usable).collect(),
        ask,
    );
    let prefills = short_list(
        nodes.iter().filter(|n| n.prefill).filter(usable).collect(),
        ask,
    );
    let pressure = mean_waiting(&prefills);
    let mut scored: Vec<Explanation> = decodes
        .iter()
        .flat_map(|d| options(d, &prefills, ask, pressure))
        .collect();
    if ask.alone {
        let idle = |e: &Explanation| is_idle(nodes, e.decode);
        if scored.iter().any(idle) {
            scored.retain(idle);
        }
    }
    scored.sort_by(|a, b| a.cost.total().total_cmp(&b.cost.total()));
    let best = scored.first()?.cost.total();
    let ties = scored
        .iter()
        .take_while(|e| e.cost.total() <= best)
        .count()
        .max(1);
    let pick = usize::try_from(ask.random % ties as u64).unwrap_or(0);
    let (decode, prefill) = (scored[pick].decode, scored[pick].prefill);
    scored.truncate(EXPLAINED);
    Some(Choice {
        decode,
        prefill,
        explained: scored,
    })
}

fn is_idle(nodes: &[Candidate], node: NodeRef) -> bool {
    nodes
        .iter()
        .any(|n| n.me == node && n.load.load.running + n.load.load.waiting + n.load.booked == 0)
}

/// All nodes, or of very many the best matches and the least loaded.
fn short_list<'a>(mut nodes: Vec<&'a Candidate>, ask: &Ask<'_>) -> Vec<&'a Candidate> {
    if nodes.len() <= SCORE_ALL {
        return nodes;
    }
    nodes.sort_by_key(|n| (std::cmp::Reverse(ask.cached(n.me.node)), n.me));
    let mut rest = nodes.split_off(SHORT_LIST);
    rest.sort_by_key(|n| {
        let load = &n.load.load;
        (
            load.queued_prefill_tokens + n.load.booked_tokens,
            load.running + n.load.booked,
            n.me,
        )
    });
    nodes.extend(rest.into_iter().take(SHORT_LIST));
    nodes
}

fn mean_waiting(nodes: &[&Candidate]) -> f64 {
    let waiting: u32 = nodes
        .iter()
        .map(|n| n.load.load.waiting + n.load.booked)
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "a cost")]
    let count = nodes.len().max(1) as f64;
    f64::from(waiting) / count
}

/// What can be done with a decode node: prefill there if the prompt is short or nobody else can, else each prefill node.
fn options(
    decode: &Candidate,
    prefills: &[&Candidate],
    ask: &Ask<'_>,
    pressure: f64,
) -> Vec<Explanation> {
    let capacity = decode.load.load.blocks_total;
    if ask.blocks(ask.prompt.tokens) > capacity {
        return Vec::new();
    }
    let cached = ask.cached(decode.me.node);
    let new_blocks =
        ask.blocks(ask.prompt.tokens + ask.prompt.output) - cached / ask.block_tokens.max(1);
    let own = decode.load.decode(ask.prompt, new_blocks);
    let uncached = ask.uncached(decode.me.node);
    let remote: Vec<Explanation> = if uncached <= ask.local_prefill_max {
        Vec::new()
    } else {
        prefills
            .iter()
            .filter(|p| p.me != decode.me && can_pair(decode, p))
            .map(|p| {
                let part = p.load.prefill(ask.uncached(p.me.node), pressure);
                let moved = ask.blocks(uncached);
                Explanation {
                    decode: decode.me,
                    prefill: Some(p.me),
                    cached_tokens: ask.cached(p.me.node),
                    cost: Cost {
                        wait: part.wait,
                        miss: part.miss,
                        transfer: transfer(moved),
                        ..own
                    },
                }
            })
            .collect()
    };
    if !remote.is_empty() {
        return remote;
    }
    let part = decode.load.prefill(uncached, pressure);
    let stall = decode.load.stall(uncached, ask.prompt.output);
    let cost = Cost {
        wait: part.wait,
        miss: part.miss,
        stall,
        ..own
    };
    vec![Explanation {
        decode: decode.me,
        prefill: None,
        cached_tokens: cached,
        cost,
    }]
}

fn can_pair(decode: &Candidate, prefill: &Candidate) -> bool {
    !decode.unreachable.contains(&prefill.me) && !prefill.unreachable.contains(&decode.me)
}
