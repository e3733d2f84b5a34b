//! The KV index against the obvious model: a set of blocks for each node, asked block by block.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::NodeId;
use logic::place::KvIndex;
use proptest::prelude::*;

const NODES: u8 = 4;
const SEQUENCES: u8 = 3;
/// Blocks of a sequence: some runs of 64.
const BLOCKS: u16 = 200;

#[derive(Clone, Debug)]
enum Op {
    /// A node stores a piece of a sequence.
    Store(u8, u8, u16, u16),
    /// A node loses a piece of one, the last block first.
    Remove(u8, u8, u16, u16),
    /// A node loses every so many-th block of a sequence.
    Thin(u8, u8, u16),
    Clear(u8),
    /// A node says that it has a piece of a sequence and nothing else.
    Replace(u8, u8, u16, u16),
}

/// What each node holds.
#[derive(Default)]
struct Model(BTreeMap<NodeId, BTreeSet<u64>>);

impl Model {
    fn walk(&self, hashes: &[u64]) -> BTreeMap<NodeId, u32> {
        let depth = |held: &BTreeSet<u64>| hashes.iter().take_while(|h| held.contains(h)).count();
        let depths = self
            .0
            .iter()
            .map(|(node, held)| (*node, depth(held) as u32));
        depths.filter(|(_, depth)| *depth > 0).collect()
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    fn held(&mut self, node: NodeId) -> &mut BTreeSet<u64> {
        self.0.entry(node).or_default()
    }
}

proptest! {
    #[test]
    fn it_says_what_the_obvious_model_says(
        ops in prop::collection::vec(op(), 1..60),
        secret in any::<u64>(),
    ) {
        let (mut index, mut model) = (KvIndex::new(1 << 16, secret), Model::default());
        for op in ops {
            apply(&op, &mut index, &mut model);
            prop_assert_eq!(index.len(), model.len(), "after {:?}", op);
            for hashes in asked() {
                prop_assert_eq!(index.walk(&hashes), model.walk(&hashes), "after {:?}", op);
            }
        }
    }

    #[test]
    fn at_its_bound_it_says_no_more_than_it_was_told(
        ops in prop::collection::vec(op(), 1..40),
        pairs_max in 1usize..300,
    ) {
        let (mut index, mut model) = (KvIndex::new(pairs_max, 1), Model::default());
        for op in ops {
            apply(&op, &mut index, &mut model);
            prop_assert!(index.len() <= pairs_max);
            for hashes in asked() {
                let most = model.walk(&hashes);
                for (node, depth) in index.walk(&hashes) {
                    prop_assert!(most.get(&node).is_some_and(|most| depth <= *most));
                }
            }
        }
    }
}

#[test]
fn a_thousand_sequences_of_one_block_are_bounded_like_one_long_one() {
    let mut index = KvIndex::new(1000, 9);
    // Each node stores one block: none can share a run.
    let stored = (0..1000).filter(|n| index.store(node_id(&format!("n{n}")), u64::from(*n as u32)));
    assert!(stored.count() < 200, "runs are bounded too");
    for n in 0..1000 {
        index.clear(node_id(&format!("n{n}")));
    }
    assert!(index.is_empty());
    assert!((0..1000).all(|hash| index.store(node_id("a"), hash)));
}

#[test]
fn blocks_stored_in_any_order_are_walked_in_theirs() {
    let (mut index, hashes) = (KvIndex::default(), sequence(1, 0, BLOCKS));
    let mut turned = hashes.clone();
    turned.sort_by_key(|hash| hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    assert_eq!(index.replace(node(0), turned), 0);
    assert_eq!(
        index.walk(&hashes),
        BTreeMap::from([(node(0), u32::from(BLOCKS))])
    );
}

fn apply(op: &Op, index: &mut KvIndex, model: &mut Model) {
    match *op {
        Op::Store(n, s, from, count) => {
            for hash in sequence(s, from, count) {
                index.store(node(n), hash);
                model.held(node(n)).insert(hash);
            }
        }
        Op::Remove(n, s, from, count) => {
            for hash in sequence(s, from, count).into_iter().rev() {
                index.remove(node(n), hash);
                model.held(node(n)).remove(&hash);
            }
        }
        Op::Thin(n, s, step) => {
            for hash in sequence(s, 0, BLOCKS).into_iter().step_by(step.into()) {
                index.remove(node(n), hash);
                model.held(node(n)).remove(&hash);
            }
        }
        Op::Clear(n) => {
            index.clear(node(n));
            model.held(node(n)).clear();
        }
        Op::Replace(n, s, from, count) => {
            let hashes = sequence(s, from, count);
            index.replace(node(n), hashes.clone());
            *model.held(node(n)) = hashes.into_iter().collect();
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let part = || (0..NODES, 0..SEQUENCES, 0..BLOCKS, 1..BLOCKS);
    prop_oneof![
        6 => part().prop_map(|(n, s, from, count)| Op::Store(n, s, from, count)),
        3 => part().prop_map(|(n, s, from, count)| Op::Remove(n, s, from, count)),
        1 => (0..NODES, 0..SEQUENCES, 1..9u16).prop_map(|(n, s, step)| Op::Thin(n, s, step)),
        1 => (0..NODES).prop_map(Op::Clear),
        1 => part().prop_map(|(n, s, from, count)| Op::Replace(n, s, from, count)),
    ]
}

/// What is asked for: sequences whole and from within, two joined, and one that nobody has.
fn asked() -> Vec<Vec<u64>> {
    let whole = (0..SEQUENCES).map(|s| sequence(s, 0, BLOCKS));
    let joined = [sequence(0, 0, 70), sequence(1, 70, BLOCKS)].concat();
    let within = sequence(2, 33, BLOCKS);
    whole
        .chain([joined, within, sequence(99, 0, 5), vec![]])
        .collect()
}

/// The first half of all sequences is the same.
fn sequence(sequence: u8, from: u16, count: u16) -> Vec<u64> {
    let own = |at: u16| {
        if at < BLOCKS / 2 && sequence < SEQUENCES {
            0
        } else {
            sequence
        }
    };
    (from..BLOCKS.min(from + count))
        .map(|at| u64::from(own(at)) << 32 | u64::from(at))
        .collect()
}

fn node(number: u8) -> NodeId {
    node_id(&format!("n{number}"))
}

fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}
