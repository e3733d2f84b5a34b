//! The KV index: which nodes are said to hold which block, by sequence hash.
//!
//! A soft picture: fed by notices, corrected by snapshots, wrong for a moment at any time. It never holds
//! tokens, and at its bound it learns nothing new. Blocks that a node stored one after another share a run, so that
//! a walk looks up one block of each run and compares the others in place. Which run a block is in only costs or
//! saves time: what a walk says follows from the blocks alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use bus_schemas::NodeId;

use super::{
    keyed::Keyed,
    run::{RUN_BLOCKS, Run},
};

/// (block, node) pairs remembered unless told otherwise: some 40 bytes each, 160 MB in all.
const PAIRS_MAX: usize = 1 << 22;
/// A run for each so many pairs: what evictions leave of runs costs at most 70 bytes a pair, 290 MB in all.
const PAIRS_A_RUN: usize = 8;

/// What an entry of an ordered set takes, with its share of half-filled nodes.
const SET_ENTRY_BYTES: usize = 8;

/// Who holds what.
#[derive(Debug)]
pub struct KvIndex {
    /// Where each block is. Only looked up, never iterated.
    places: HashMap<u64, Place, Keyed>,
    runs: Vec<Run>,
    /// Runs of which nobody holds anything.
    free: Vec<u32>,
    numbers: BTreeMap<NodeId, u32>,
    /// By number; a number is given again after its node is gone.
    nodes: Vec<Option<Node>>,
    /// The node that spoke last: it will again.
    speaker: u32,
    pairs: usize,
    pairs_max: usize,
}

#[derive(Debug)]
struct Node {
    name: NodeId,
    /// The block that it stored last: the next one probably follows it.
    last: Option<Place>,
    /// Runs of which it holds something.
    runs: BTreeSet<u32>,
}

/// A block's run and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn new(run: usize, at: usize) -> Self {
        let place = u32::try_from(run * RUN_BLOCKS + at);
        Self(place.expect("runs are bounded far below 67 million"))
    }

    const fn run(self) -> usize {
        self.0 as usize / RUN_BLOCKS
    }

    const fn at(self) -> usize {
        self.0 as usize % RUN_BLOCKS
    }
}

impl Default for KvIndex {
    fn default() -> Self {
        Self::new(PAIRS_MAX, 0)
    }
}

impl KvIndex {
    /// An empty index that remembers at most `pairs_max` (block, node) pairs. Whoever can choose hashes must not know `secret`.
    #[must_use]
    pub fn new(pairs_max: usize, secret: u64) -> Self {
        Self {
            places: HashMap::with_hasher(Keyed(secret)),
            runs: Vec::new(),
            free: Vec::new(),
            numbers: BTreeMap::new(),
            nodes: Vec::new(),
            speaker: 0,
            pairs: 0,
            pairs_max,
        }
    }

    /// An index of the usual size.
    #[must_use]
    pub fn keyed(secret: u64) -> Self {
        Self::new(PAIRS_MAX, secret)
    }

    /// A node stored a block; false if there is no room to remember it.
    pub fn store(&mut self, node: NodeId, hash: u64) -> bool {
        if self.pairs >= self.pairs_max {
            return self.holds(node, hash);
        }
        let number = self.number(node);
        let last = self.nodes[number as usize].as_ref().and_then(|n| n.last);
        let Some(place) = self.expected(last, hash).or_else(|| self.place(last, hash)) else {
            return false;
        };
        let run = &mut self.runs[place.run()];
        let met = run.find(number).is_none();
        self.pairs += usize::from(run.hold(place.at(), number));
        if let Some(node) = &mut self.nodes[number as usize] {
            node.last = Some(place);
            if met {
                node.runs.insert(place.run() as u32);
            }
        }
        true
    }

    /// A node no longer has a block.
    pub fn remove(&mut self, node: NodeId, hash: u64) {
        let Some(number) = self.known_number(node) else {
            return;
        };
        let Entry::Occupied(known) = self.places.entry(hash) else {
            return;
        };
        let (at, block) = (known.get().run(), 1 << known.get().at());
        let run = &mut self.runs[at];
        let (gone, lost) = run.release(number, block);
        self.pairs -= usize::from(gone != 0);
        let left = gone != 0 && run.find(number).is_none();
        if let Some(node) = self.nodes[number as usize].as_mut().filter(|_| left) {
            node.runs.remove(&(at as u32));
        }
        if lost != 0 {
            known.remove();
            if run.is_free() {
                self.free.push(at as u32);
            }
        }
    }

    /// A node is gone, or is about to say everything anew.
    pub fn clear(&mut self, node: NodeId) {
        let Some(number) = self.numbers.remove(&node) else {
            return;
        };
        let node = self.nodes[number as usize].take();
        for run in node.into_iter().flat_map(|node| node.runs) {
            self.release_all(run as usize, number);
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
        let mut overlap = Vec::new();
        let mut holders: Vec<u32> = Vec::new();
        let (mut depth, mut last) = (0, None);
        while depth < hashes.len() {
            let hash = hashes[depth];
            let Some(place) = self
                .expected(last, hash)
                .or_else(|| self.places.get(&hash).copied())
            else {
                break;
            };
            let run = &self.runs[place.run()];
            if depth == 0 {
                holders.extend(run.holders().map(|holder| holder.node));
            }
            let common = run.common(place.at(), &hashes[depth..]);
            let mut fronts = run.holders().peekable();
            holders.retain(|number| {
                while fronts.next_if(|holder| holder.node < *number).is_some() {}
                let own = fronts.next_if(|holder| holder.node == *number);
                let front = own.map_or(0, |holder| holder.front(place.at()));
                if front < common {
                    overlap.push((*number, depth + front));
                }
                front >= common
            });
            if holders.is_empty() {
                break;
            }
            depth += common;
            last = Some(Place(place.0 + common as u32 - 1));
        }
        overlap.extend(holders.into_iter().map(|number| (number, depth)));
        self.named(overlap)
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

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rows = self.places.capacity() * 8 / 7; // a table is filled to seven eighths
        let sets: usize = self
            .nodes
            .iter()
            .flatten()
            .map(|node| node.runs.len())
            .sum();
        let heaps = self.runs.iter().map(Run::heap_bytes).sum::<usize>() + sets * SET_ENTRY_BYTES;
        rows * (size_of::<(u64, Place)>() + 1) + self.runs.capacity() * size_of::<Run>() + heaps
    }

    fn holds(&self, node: NodeId, hash: u64) -> bool {
        let number = self.numbers.get(&node).copied();
        let (Some(number), Some(place)) = (number, self.places.get(&hash)) else {
            return false;
        };
        let holder = self.runs[place.run()].find(number);
        holder.is_some_and(|holder| holder.front(place.at()) > 0)
    }

    /// The block after `last`, in the same run or at the front of the next, if it is this one.
    fn expected(&self, last: Option<Place>, hash: u64) -> Option<Place> {
        let last = last?;
        let run = self.runs.get(last.run())?;
        let next = if last.at() + 1 < run.len() {
            Place(last.0 + 1)
        } else {
            Place::new(last.run() + 1, 0)
        };
        let run = self.runs.get(next.run())?;
        run.is_at(next.at(), hash).then_some(next)
    }

    /// Where a block is, or is to be: behind `last` if that ends a run. None if there is no room for another run.
    fn place(&mut self, last: Option<Place>, hash: u64) -> Option<Place> {
        let entry = match self.places.entry(hash) {
            Entry::Occupied(known) => return Some(*known.get()),
            Entry::Vacant(entry) => entry,
        };
        let open = last.map(Place::run).filter(|run| {
            let ends = last.is_some_and(|last| last.at() + 1 >= self.runs[*run].len());
            ends && !self.runs[*run].is_full() && !self.runs[*run].is_free()
        });
        let run = match open.or_else(|| self.free.pop().map(|run| run as usize)) {
            Some(run) => run,
            None if self.runs.len() > self.pairs_max / PAIRS_A_RUN => return None,
            None => {
                self.runs.push(Run::new());
                self.runs.len() - 1
            }
        };
        let place = Place::new(run, self.runs[run].push(hash));
        entry.insert(place);
        Some(place)
    }

    /// A node lets a run go; blocks that nobody holds are forgotten.
    fn release_all(&mut self, at: usize, number: u32) {
        let run = &mut self.runs[at];
        let (gone, mut lost) = run.release(number, u64::MAX);
        self.pairs -= gone.count_ones() as usize;
        while lost != 0 {
            let block = lost.trailing_zeros() as usize;
            self.places.remove(&run.hash(block));
            lost &= lost - 1;
        }
        if gone != 0 && run.is_free() {
            self.free.push(at as u32);
        }
    }

    fn named(&self, overlap: Vec<(u32, usize)>) -> BTreeMap<NodeId, u32> {
        let named = overlap.into_iter().filter(|(_, depth)| *depth > 0);
        named
            .filter_map(|(number, depth)| {
                let node = self.nodes.get(number as usize)?.as_ref()?;
                Some((node.name, u32::try_from(depth).unwrap_or(u32::MAX)))
            })
            .collect()
    }

    fn known_number(&mut self, name: NodeId) -> Option<u32> {
        let speaker = self.nodes.get(self.speaker as usize);
        if speaker.is_none_or(|n| n.as_ref().is_none_or(|n| n.name != name)) {
            self.speaker = *self.numbers.get(&name)?;
        }
        Some(self.speaker)
    }

    fn number(&mut self, name: NodeId) -> u32 {
        match self.known_number(name) {
            Some(number) => number,
            None => self.fresh_number(name),
        }
    }

    fn fresh_number(&mut self, name: NodeId) -> u32 {
        let node = Some(Node {
            name,
            last: None,
            runs: BTreeSet::new(),
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
        let mut index = KvIndex::new(2, 7);
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
