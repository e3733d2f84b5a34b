//! The KV index: which nodes are said to have which block.
//!
//! Soft: fed by notices, corrected by snapshots, wrong for a moment at any time. It never holds tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bus_schemas::NodeId;

/// (block, node) pairs remembered at most, some 100 bytes each: 400 MB. Beyond it new ones are not learned.
const PAIRS_MAX: usize = 1 << 22;

/// Who has what.
#[derive(Debug, Default)]
pub struct KvIndex {
    /// Nodes by sequence hash, sorted. Only looked up, never iterated.
    holders: HashMap<u64, Vec<NodeId>>,
    /// Hashes by node.
    held: BTreeMap<NodeId, BTreeSet<u64>>,
    pairs: usize,
}

impl KvIndex {
    /// A node stored a block.
    pub fn store(&mut self, node: NodeId, hash: u64) {
        if self.pairs >= PAIRS_MAX || !self.held.entry(node).or_default().insert(hash) {
            return;
        }
        self.pairs += 1;
        let holders = self.holders.entry(hash).or_default();
        if let Err(at) = holders.binary_search(&node) {
            holders.insert(at, node);
        }
    }

    /// A node no longer has a block.
    pub fn remove(&mut self, node: NodeId, hash: u64) {
        if self
            .held
            .get_mut(&node)
            .is_some_and(|held| held.remove(&hash))
        {
            self.forget(node, hash);
        }
    }

    fn forget(&mut self, node: NodeId, hash: u64) {
        self.pairs -= 1;
        let Some(holders) = self.holders.get_mut(&hash) else {
            return;
        };
        if let Ok(at) = holders.binary_search(&node) {
            holders.remove(at);
        }
        if holders.is_empty() {
            self.holders.remove(&hash);
        }
    }

    /// A node is gone, or is about to say everything anew.
    pub fn clear(&mut self, node: NodeId) {
        for hash in self.held.remove(&node).unwrap_or_default() {
            self.forget(node, hash);
        }
    }

    /// For each node that has the first block: how many leading blocks it has, in the order of names.
    #[must_use]
    pub fn walk(&self, hashes: &[u64]) -> BTreeMap<NodeId, u32> {
        let mut overlap = BTreeMap::new();
        let Some(first) = hashes.first().and_then(|h| self.holders.get(h)) else {
            return overlap;
        };
        let mut still: Vec<NodeId> = first.clone();
        for (depth, hash) in (1u32..).zip(hashes) {
            let Some(holders) = self.holders.get(hash) else {
                break;
            };
            still.retain(|node| holders.binary_search(node).is_ok());
            if still.is_empty() {
                break;
            }
            for node in &still {
                overlap.insert(*node, depth);
            }
        }
        overlap
    }

    /// (block, node) pairs known.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    #[test]
    fn a_walk_counts_only_the_unbroken_front() {
        let mut index = KvIndex::default();
        for hash in [1, 2, 3] {
            index.store(node("a"), hash);
        }
        for hash in [1, 3] {
            index.store(node("b"), hash);
        }
        index.store(node("c"), 2);
        let overlap = index.walk(&[1, 2, 3, 4]);
        assert_eq!(overlap.get(&node("a")), Some(&3));
        assert_eq!(overlap.get(&node("b")), Some(&1));
        assert_eq!(overlap.get(&node("c")), None);
    }

    #[test]
    fn what_a_node_loses_or_takes_along_is_forgotten() {
        let mut index = KvIndex::default();
        for name in ["a", "b"] {
            index.store(node(name), 1);
            index.store(node(name), 2);
            index.store(node(name), 2);
        }
        assert_eq!(index.len(), 4);
        index.remove(node("a"), 2);
        index.remove(node("a"), 2);
        assert_eq!(index.walk(&[1, 2]).get(&node("a")), Some(&1));
        index.clear(node("b"));
        index.clear(node("a"));
        assert!(index.is_empty() && index.walk(&[1, 2]).is_empty());
    }
}
