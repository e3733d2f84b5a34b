//! The KV index: which nodes are said to hold which block, by sequence hash.
//!
//! A soft picture: fed by notices, corrected by snapshots, wrong for a moment at any time. It never holds
//! tokens, and at its bound it learns nothing new. Inside, nodes are small numbers, so that a walk is cheap.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use bus_schemas::NodeId;

/// (block, node) pairs remembered unless told otherwise: some 100 bytes each, 400 MB in all.
const PAIRS_MAX: usize = 1 << 22;

/// Who holds what.
#[derive(Debug)]
pub struct KvIndex {
    /// Holders of each hash, sorted. Only looked up, never iterated.
    holders: HashMap<u64, Vec<u32>, BuildHasherDefault<HashOfHash>>,
    numbers: BTreeMap<NodeId, u32>,
    /// By number; a number is given again after its node is gone.
    nodes: Vec<Option<Node>>,
    pairs: usize,
    pairs_max: usize,
}

#[derive(Debug)]
struct Node {
    name: NodeId,
    held: BTreeSet<u64>,
}

impl Default for KvIndex {
    fn default() -> Self {
        Self::new(PAIRS_MAX)
    }
}

impl KvIndex {
    /// An empty index that remembers at most `pairs_max` (block, node) pairs.
    #[must_use]
    pub fn new(pairs_max: usize) -> Self {
        Self {
            holders: HashMap::default(),
            numbers: BTreeMap::new(),
            nodes: Vec::new(),
            pairs: 0,
            pairs_max,
        }
    }

    /// A node stored a block; false if there is no room to remember it.
    pub fn store(&mut self, node: NodeId, hash: u64) -> bool {
        if self.pairs >= self.pairs_max {
            return self.holds(node, hash);
        }
        let number = self.number(node);
        let known = self.nodes[number as usize]
            .as_mut()
            .is_some_and(|n| !n.held.insert(hash));
        if known {
            return true;
        }
        self.pairs += 1;
        let holders = self.holders.entry(hash).or_default();
        if let Err(at) = holders.binary_search(&number) {
            holders.insert(at, number);
        }
        true
    }

    /// A node no longer has a block.
    pub fn remove(&mut self, node: NodeId, hash: u64) {
        let Some(number) = self.numbers.get(&node).copied() else {
            return;
        };
        if self.nodes[number as usize]
            .as_mut()
            .is_some_and(|n| n.held.remove(&hash))
        {
            self.forget(number, hash);
        }
    }

    /// A node is gone, or is about to say everything anew.
    pub fn clear(&mut self, node: NodeId) {
        let Some(number) = self.numbers.remove(&node) else {
            return;
        };
        let Some(node) = self.nodes[number as usize].take() else {
            return;
        };
        for hash in node.held {
            self.forget(number, hash);
        }
    }

    /// A node said everything it holds; returns how much of it there was no room to remember.
    pub fn replace(&mut self, node: NodeId, hashes: impl IntoIterator<Item = u64>) -> u64 {
        self.clear(node);
        let unlearned = hashes.into_iter().filter(|hash| !self.store(node, *hash));
        unlearned.count() as u64
    }

    /// How many leading blocks of a sequence each node holds; nodes that hold none are absent.
    #[must_use]
    pub fn walk(&self, hashes: &[u64]) -> BTreeMap<NodeId, u32> {
        let mut overlap = BTreeMap::new();
        let mut run: Vec<u32> = Vec::new();
        let mut depth = 0;
        for hash in hashes {
            let holders = self.holders.get(hash).map_or(&[][..], Vec::as_slice);
            if depth == 0 {
                run = holders.to_vec();
            } else if *holders != run {
                run.retain(|number| {
                    let goes_on = holders.binary_search(number).is_ok();
                    if !goes_on {
                        overlap.extend(self.name(*number).map(|name| (name, depth)));
                    }
                    goes_on
                });
            }
            if run.is_empty() {
                return overlap;
            }
            depth += 1;
        }
        overlap.extend(
            run.into_iter()
                .filter_map(|number| Some((self.name(number)?, depth))),
        );
        overlap
    }

    /// (block, node) pairs remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    fn holds(&self, node: NodeId, hash: u64) -> bool {
        let number = self.numbers.get(&node).copied();
        let node = number.and_then(|number| self.nodes[number as usize].as_ref());
        node.is_some_and(|n| n.held.contains(&hash))
    }

    fn name(&self, number: u32) -> Option<NodeId> {
        self.nodes.get(number as usize)?.as_ref().map(|n| n.name)
    }

    fn number(&mut self, name: NodeId) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let node = Some(Node {
            name,
            held: BTreeSet::new(),
        });
        let place = match self.nodes.iter().position(Option::is_none) {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let number = u32::try_from(place).expect("members are bounded far below four billion");
        self.numbers.insert(name, number);
        number
    }

    fn forget(&mut self, number: u32, hash: u64) {
        self.pairs -= 1;
        let Some(holders) = self.holders.get_mut(&hash) else {
            return;
        };
        if let Ok(at) = holders.binary_search(&number) {
            holders.remove(at);
        }
        if holders.is_empty() {
            self.holders.remove(&hash);
        }
    }
}

/// Sequence hashes are already evenly spread: the key is its own hash, so that no run differs from another.
#[derive(Debug, Default)]
struct HashOfHash(u64);

impl Hasher for HashOfHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_counts_only_the_unbroken_front() {
        let mut index = KvIndex::default();
        index.replace(node("a"), [1, 2, 3]);
        index.replace(node("b"), [1, 3]);
        index.replace(node("c"), [2]);
        let overlap = index.walk(&[1, 2, 3, 4]);
        assert_eq!(overlap, BTreeMap::from([(node("a"), 3), (node("b"), 1)]));
        assert!(index.walk(&[9, 1]).is_empty() && index.walk(&[]).is_empty());
    }

    #[test]
    fn what_a_node_loses_or_takes_along_is_forgotten() {
        let mut index = KvIndex::default();
        for name in ["a", "b"] {
            assert!(index.store(node(name), 1) && index.store(node(name), 2));
            assert!(index.store(node(name), 2));
        }
        assert_eq!(index.len(), 4);
        index.remove(node("a"), 2);
        index.remove(node("a"), 2);
        assert_eq!(index.walk(&[1, 2]).get(&node("a")), Some(&1));
        index.clear(node("b"));
        index.clear(node("a"));
        assert!(index.is_empty() && index.walk(&[1, 2]).is_empty());
    }

    #[test]
    fn a_number_given_again_does_not_inherit_blocks() {
        let mut index = KvIndex::default();
        index.replace(node("a"), [1, 2]);
        index.clear(node("a"));
        index.store(node("b"), 3);
        assert!(index.walk(&[1]).is_empty());
        assert_eq!(index.walk(&[3]), BTreeMap::from([(node("b"), 1)]));
    }

    #[test]
    fn a_full_index_keeps_what_it_knows_and_learns_nothing() {
        let mut index = KvIndex::new(2);
        assert!(index.store(node("a"), 1) && index.store(node("a"), 2));
        assert!(!index.store(node("b"), 1) && index.store(node("a"), 2));
        assert_eq!(index.walk(&[1, 2]), BTreeMap::from([(node("a"), 2)]));
        index.remove(node("a"), 2);
        assert!(index.store(node("b"), 1));
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }
}
