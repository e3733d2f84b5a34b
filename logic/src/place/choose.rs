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
    fn may_use(&self, node: &Candidate) -> bool {
        !self.avoid.contains(&node.me) && node.load.load.blocks_total >= self.blocks_least
    }
}

/// Chooses among nodes of one pool, which are in the order of their names; none if none can take it.
#[must_use]
pub fn choose(nodes: &[Candidate], ask: &Ask<'_>) -> Option<Choice> {
    choose_for(nodes, None, ask)
}

/// Chooses who prefills for an owner that has promised already: another node, or none where it does so itself.
#[must_use]
pub fn choose_prefill(nodes: &[Candidate], decode: NodeRef, ask: &Ask<'_>) -> Option<Choice> {
    choose_for(nodes, Some(decode), ask)
}

fn choose_for(nodes: &[Candidate], owner: Option<NodeRef>, ask: &Ask<'_>) -> Option<Choice> {
    let usable: Vec<Entry<'_>> = entries(nodes, ask)
        .filter(|e| ask.may_use(e.node))
        .collect();
    let may_own = |e: &Entry<'_>| match owner {
        Some(owner) => e.node.me == owner,
        None => e.node.decode && (!ask.alone || e.busy == (0, 0)),
    };
    let only = |role: &dyn Fn(&Entry<'_>) -> bool| -> Vec<Entry<'_>> {
        usable.iter().filter(|e| role(e)).copied().collect()
    };
    let prefills = only(&|e| e.node.prefill && !ask.alone);
    let decodes = short_list(only(&may_own), ask);
    let waiting = mean_waiting(if prefills.is_empty() {
        &decodes
    } else {
        &prefills
    });
    let helpers = helpers(short_list(prefills, ask), waiting, ask);
    let score = |lonely: bool| -> Vec<Possible<'_>> {
        let options = decodes
            .iter()
            .flat_map(|decode| options(*decode, &helpers, waiting, lonely, ask));
        options.collect()
    };
    let mut scored = score(false);
    if scored.is_empty() {
        scored = score(true);
    }
    explain(scored, ask)
}

/// A node and what it has of the prompt.
#[derive(Clone, Copy)]
struct Entry<'a> {
    node: &'a Candidate,
    /// Leading blocks.
    overlap: u32,
    /// Prompt tokens and rows that it has: beside the overlap, all that a short list looks at.
    busy: (u64, u64),
}

impl Entry<'_> {
    /// Tokens that need not be computed here; the last one always must, for its logits.
    fn cached(&self, ask: &Ask<'_>) -> u32 {
        let tokens = self.overlap.saturating_mul(ask.block_tokens);
        tokens.min(ask.prompt.tokens.saturating_sub(1))
    }

    fn uncached(&self, ask: &Ask<'_>) -> u32 {
        ask.prompt.tokens - self.cached(ask)
    }

    /// Blocks that it would have to find to decode.
    fn new_blocks(&self, ask: &Ask<'_>) -> u32 {
        let tokens = ask.prompt.tokens.saturating_add(ask.prompt.output);
        tokens
            .div_ceil(ask.block_tokens.max(1))
            .saturating_sub(self.overlap)
    }
}

/// Nodes with their overlaps; both are in the order of names.
fn entries<'a>(nodes: &'a [Candidate], ask: &'a Ask<'_>) -> impl Iterator<Item = Entry<'a>> {
    debug_assert!(nodes.is_sorted_by_key(|n| n.me.node), "sorted by name");
    let mut known = ask.overlap.iter().peekable();
    nodes.iter().map(move |node| {
        while known.next_if(|(name, _)| **name < node.me.node).is_some() {}
        let overlap = known.next_if(|(name, _)| **name == node.me.node);
        Entry {
            node,
            overlap: overlap.map_or(0, |(_, blocks)| *blocks),
            busy: (node.load.queued_tokens(), node.load.rows()),
        }
    })
}

/// A prefill node and what it would cost to use it.
struct Helper<'a> {
    entry: Entry<'a>,
    cost: Cost,
    total_us: u64,
}

/// One possibility, before anybody wants to read it.
struct Possible<'a> {
    total_us: u64,
    decode: Entry<'a>,
    prefill: Option<Entry<'a>>,
    cost: Cost,
}

/// Prefill nodes, cheapest first: what one costs does not depend on who decodes.
fn helpers<'a>(entries: Vec<Entry<'a>>, waiting: f64, ask: &Ask<'_>) -> Vec<Helper<'a>> {
    let priced = entries.into_iter().map(|entry| {
        let cost = entry.node.load.prefill(entry.uncached(ask), waiting);
        Helper {
            entry,
            cost,
            total_us: cost.total_us(),
        }
    });
    let mut helpers: Vec<Helper<'a>> = priced.collect();
    helpers.sort_by_key(|helper| helper.total_us);
    helpers
}

/// What can be done with a decode node: the best helper in its reach, prefilling by itself, or both. A node
/// without the prefill role does that for short prompts only, unless it is `lonely`: no pair can be made at all.
fn options<'a>(
    decode: Entry<'a>,
    helpers: &[Helper<'a>],
    waiting: f64,
    lonely: bool,
    ask: &Ask<'_>,
) -> impl Iterator<Item = Possible<'a>> {
    let load = &decode.node.load;
    let uncached = decode.uncached(ask);
    let own = load.decode(ask.prompt, decode.new_blocks(ask));
    let short = uncached <= ask.local_prefill_max;
    let helper = if short {
        None
    } else {
        helper_of(decode.node, helpers, ask.random)
    };
    let possible = move |prefill, cost: Cost| Possible {
        total_us: cost.total_us(),
        decode,
        prefill,
        cost,
    };
    let remote = helper.map(|helper| {
        let cost = Cost {
            wait: helper.cost.wait,
            miss: helper.cost.miss,
            transfer: transfer(uncached),
            ..own
        };
        possible(Some(helper.entry), cost)
    });
    let local = (decode.node.prefill || short || lonely).then(|| {
        let part = load.prefill(uncached, waiting);
        let cost = Cost {
            wait: part.wait,
            miss: part.miss,
            stall: load.stall(uncached, ask.prompt.output),
            ..own
        };
        possible(None, cost)
    });
    remote.into_iter().chain(local)
}

/// The cheapest helper that a decode node can pair with. Equals come in a circle that begins anywhere.
fn helper_of<'a, 'b>(
    decode: &Candidate,
    helpers: &'b [Helper<'a>],
    random: u64,
) -> Option<&'b Helper<'a>> {
    let fits = |h: &&Helper<'_>| h.entry.node.me != decode.me && can_pair(decode, h.entry.node);
    let cheapest = helpers.first()?.total_us;
    let (equals, dearer) = helpers.split_at(helpers.partition_point(|h| h.total_us == cheapest));
    let (before, after) = equals.split_at(pick(random >> 32, equals.len()));
    after.iter().chain(before).chain(dearer).find(fits)
}

fn can_pair(decode: &Candidate, prefill: &Candidate) -> bool {
    !decode.unreachable.contains(&prefill.me) && !prefill.unreachable.contains(&decode.me)
}

/// All nodes, or of very many the best matches and the least loaded. Only the few are found, nothing is sorted.
fn short_list<'a>(mut entries: Vec<Entry<'a>>, ask: &Ask<'_>) -> Vec<Entry<'a>> {
    if entries.len() <= SCORE_ALL {
        return entries;
    }
    let turn = pick(ask.random, entries.len());
    entries.rotate_left(turn); // of equals others are found each time
    entries.select_nth_unstable_by_key(SHORT_LIST, |e| Reverse(e.overlap));
    let (_, rest) = entries.split_at_mut(SHORT_LIST);
    rest.select_nth_unstable_by_key(SHORT_LIST, |e| e.busy);
    entries.truncate(2 * SHORT_LIST);
    entries
}

/// The cheapest, of equals one by chance, and after it the next best for a person to read.
fn explain(mut scored: Vec<Possible<'_>>, ask: &Ask<'_>) -> Option<Choice> {
    let least = scored.iter().map(|p| p.total_us).min()?;
    let ties = scored.iter().filter(|p| p.total_us == least).count();
    let of_ties = pick(ask.random, ties);
    let mut equals = (0..scored.len()).filter(|at| scored[*at].total_us == least);
    let best = equals.nth(of_ties)?;
    scored.swap(0, best);
    let (first, rest) = scored.split_first_mut()?;
    let key = |p: &Possible<'_>| p.total_us;
    let shown = rest.len().min(EXPLAINED - 1);
    if shown < rest.len() {
        rest.select_nth_unstable_by_key(shown, key);
    }
    let next = &mut rest[..shown];
    next.sort_by_key(key);
    let explained = std::iter::once(&*first).chain(&*next).map(|p| {
        let prefilled = p.prefill.unwrap_or(p.decode);
        Explanation {
            decode: p.decode.node.me,
            prefill: p.prefill.map(|entry| entry.node.me),
            cached_tokens: prefilled.cached(ask),
            cost: p.cost,
        }
    });
    Some(Choice {
        decode: first.decode.node.me,
        prefill: first.prefill.map(|entry| entry.node.me),
        explained: explained.collect(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a price")]
fn mean_waiting(entries: &[Entry<'_>]) -> f64 {
    let waiting: u64 = entries.iter().map(|e| e.node.load.waiting()).sum();
    waiting as f64 / entries.len().max(1) as f64
}

/// One of `count` places, by chance; 0 if there is none.
fn pick(random: u64, count: usize) -> usize {
    usize::try_from(random % count.max(1) as u64).unwrap_or(0)
}
