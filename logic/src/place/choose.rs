//! The choice: the pair of prefill and decode node, or the decode node alone, that costs least.
//!
//! Nothing is chosen that is to be avoided, too small, or out of the other's reach. It draws nothing: ties
//! are broken by a number that the caller drew. Start at [`choose`].

use std::{cmp::Reverse, collections::BTreeMap};

use bus_schemas::{NodeId, NodeRef};

use super::cost::{Cost, NodeLoad, Prompt, transfer};

/// Above this many nodes of a kind only the best matches and the least loaded are scored (PLACEMENT section 5).
const SCORE_ALL: usize = 64;
/// How many of each then.
const SHORT_LIST: usize = 8;
/// Candidates kept in an explanation: what a person reads.
const EXPLAINED: usize = 8;

/// A node that takes requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub me: NodeRef,
    /// May own the request.
    pub decode: bool,
    /// May prefill, for others and for itself.
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
    /// Blocks without which it can never run.
    pub blocks_least: u32,
    /// Leading blocks that each node has.
    pub overlap: &'a BTreeMap<NodeId, u32>,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Longest uncached prompt that a decode node prefills itself although others could.
    pub local_prefill_max: u32,
    /// Incarnations not to use.
    pub avoid: &'a [NodeRef],
    /// Only on an owner that runs nothing else, and which prefills it itself: it may take its nodes along.
    pub alone: bool,
    /// Breaks ties.
    pub random: u64,
}

/// One possibility and its price.
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
    /// The chosen one, then the next best, cheapest first.
    pub explained: Vec<Explanation>,
}

impl Ask<'_> {
    /// Tokens that need not be computed on a node; the last one always must, for its logits.
    fn cached(&self, node: NodeId) -> u32 {
        let blocks = self.overlap.get(&node).copied().unwrap_or(0);
        let tokens = blocks.saturating_mul(self.block_tokens);
        tokens.min(self.prompt.tokens.saturating_sub(1))
    }

    fn uncached(&self, node: NodeId) -> u32 {
        self.prompt.tokens - self.cached(node)
    }

    /// Blocks that a decode node would have to find.
    fn new_blocks(&self, node: NodeId) -> u32 {
        let tokens = self.prompt.tokens.saturating_add(self.prompt.output);
        let cached = self.overlap.get(&node).copied().unwrap_or(0);
        tokens
            .div_ceil(self.block_tokens.max(1))
            .saturating_sub(cached)
    }

    fn may_use(&self, node: &Candidate) -> bool {
        !self.avoid.contains(&node.me) && node.load.load.blocks_total >= self.blocks_least
    }
}

/// Chooses among nodes of one pool; none if none can take it.
#[must_use]
pub fn choose(nodes: &[Candidate], ask: &Ask<'_>) -> Option<Choice> {
    let usable = || nodes.iter().filter(|n| ask.may_use(n));
    let idle = |n: &&Candidate| !ask.alone || n.load.rows() + n.load.queued_tokens() == 0;
    let decodes = short_list(usable().filter(|n| n.decode).filter(idle).collect(), ask);
    let prefills: Vec<&Candidate> = usable().filter(|n| n.prefill && !ask.alone).collect();
    let waiting = mean_waiting(if prefills.is_empty() {
        &decodes
    } else {
        &prefills
    });
    let helpers = helpers(short_list(prefills, ask), waiting, ask);
    let score = |lonely: bool| -> Vec<(u64, Explanation)> {
        let options = decodes
            .iter()
            .flat_map(|node| options(node, &helpers, waiting, lonely, ask));
        options
            .map(|option| (option.cost.total_us(), option))
            .collect()
    };
    let mut scored = score(false);
    if scored.is_empty() {
        scored = score(true);
    }
    scored.sort_by_key(|(total, option)| (*total, option.decode, option.prefill));
    let least = scored.first()?.0;
    let ties = scored.partition_point(|(total, _)| *total == least);
    scored.swap(0, pick(ask.random, ties));
    scored.truncate(EXPLAINED);
    let explained: Vec<Explanation> = scored.into_iter().map(|(_, option)| option).collect();
    let (decode, prefill) = explained.first().map(|best| (best.decode, best.prefill))?;
    Some(Choice {
        decode,
        prefill,
        explained,
    })
}

/// A prefill node and what it would cost to use it.
struct Helper<'a> {
    node: &'a Candidate,
    cost: Cost,
    total_us: u64,
}

/// Prefill nodes, cheapest first: what one costs does not depend on who decodes.
fn helpers<'a>(nodes: Vec<&'a Candidate>, waiting: f64, ask: &Ask<'_>) -> Vec<Helper<'a>> {
    let mut helpers: Vec<Helper<'a>> = nodes
        .into_iter()
        .map(|node| {
            let cost = node.load.prefill(ask.uncached(node.me.node), waiting);
            Helper {
                node,
                cost,
                total_us: cost.total_us(),
            }
        })
        .collect();
    helpers.sort_by_key(|helper| (helper.total_us, helper.node.me));
    helpers
}

/// What can be done with a decode node: the best helper in its reach, prefilling by itself, or both. A node
/// without the prefill role does that for short prompts only, unless it is `lonely`: no pair can be made at all.
fn options(
    node: &Candidate,
    helpers: &[Helper<'_>],
    waiting: f64,
    lonely: bool,
    ask: &Ask<'_>,
) -> Vec<Explanation> {
    let uncached = ask.uncached(node.me.node);
    let own = node.load.decode(ask.prompt, ask.new_blocks(node.me.node));
    let short = uncached <= ask.local_prefill_max;
    let helper = if short {
        None
    } else {
        helper_of(node, helpers, ask.random)
    };
    let remote = helper.map(|helper| Explanation {
        decode: node.me,
        prefill: Some(helper.node.me),
        cached_tokens: ask.cached(helper.node.me.node),
        cost: Cost {
            wait: helper.cost.wait,
            miss: helper.cost.miss,
            transfer: transfer(uncached),
            ..own
        },
    });
    let local = (node.prefill || short || lonely).then(|| {
        let part = node.load.prefill(uncached, waiting);
        let stall = node.load.stall(uncached, ask.prompt.output);
        Explanation {
            decode: node.me,
            prefill: None,
            cached_tokens: ask.cached(node.me.node),
            cost: Cost {
                wait: part.wait,
                miss: part.miss,
                stall,
                ..own
            },
        }
    });
    remote.into_iter().chain(local).collect()
}

/// The cheapest helper that a decode node can pair with, by chance among equals.
fn helper_of<'a>(
    node: &Candidate,
    helpers: &'a [Helper<'a>],
    random: u64,
) -> Option<&'a Helper<'a>> {
    let mut fit = helpers
        .iter()
        .filter(|h| h.node.me != node.me && can_pair(node, h.node));
    let best = fit.next()?;
    let equals = fit.take_while(|h| h.total_us == best.total_us);
    let all: Vec<&Helper<'_>> = std::iter::once(best).chain(equals).collect();
    all.get(pick(random >> 32, all.len())).copied()
}

fn can_pair(decode: &Candidate, prefill: &Candidate) -> bool {
    !decode.unreachable.contains(&prefill.me) && !prefill.unreachable.contains(&decode.me)
}

/// All nodes, or of very many the best matches and the least loaded.
fn short_list<'a>(mut nodes: Vec<&'a Candidate>, ask: &Ask<'_>) -> Vec<&'a Candidate> {
    if nodes.len() <= SCORE_ALL {
        return nodes;
    }
    let turn = pick(ask.random, nodes.len());
    nodes.rotate_left(turn); // equals come in another order each time
    nodes.sort_by_cached_key(|n| Reverse(ask.cached(n.me.node)));
    let mut rest = nodes.split_off(SHORT_LIST);
    rest.sort_by_cached_key(|n| (n.load.queued_tokens(), n.load.rows()));
    nodes.extend(rest.into_iter().take(SHORT_LIST));
    nodes
}

#[expect(clippy::cast_precision_loss, reason = "a price")]
fn mean_waiting(nodes: &[&Candidate]) -> f64 {
    let waiting: u64 = nodes.iter().map(|n| n.load.waiting()).sum();
    waiting as f64 / nodes.len().max(1) as f64
}

/// One of `count` places, by chance; 0 if there is none.
fn pick(random: u64, count: usize) -> usize {
    usize::try_from(random % count.max(1) as u64).unwrap_or(0)
}
