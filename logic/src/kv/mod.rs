//! The blocks of one worker: each in exactly one state, counted, and found again by what it holds.
//!
//! A [`Pool`] only keeps books. It never touches memory, and it never lets a hash prove anything: every
//! hit is compared token by token. Start reading at [`State`], then [`Pool::find`] and [`Pool::reserve`].

mod block;
mod check;
mod index;

use std::collections::BTreeSet;

use bus_schemas::messages::SlotRef;

use self::{block::Block, index::PrefixIndex};
pub use self::{
    block::{Change, Counts, Seal, State},
    check::{Fault, check},
};

/// All blocks of a worker.
#[derive(Clone, Debug)]
pub struct Pool {
    blocks: Vec<Block>,
    /// Free slots, the next one last.
    free: Vec<u32>,
    /// Cached slots by last use.
    cached: BTreeSet<(u64, u32)>,
    /// Of these, the ones that no indexed block follows: evicted first, so that heads go after tails.
    leaves: BTreeSet<(u64, u32)>,
    index: PrefixIndex,
    counts: Counts,
    /// Counts uses.
    clock: u64,
    /// Since they were last taken; the owner takes them after every input.
    changes: Vec<Change>,
}

impl Pool {
    /// A pool of `slots` free blocks, except for those in `quarantined`, on which old operations may still write.
    #[must_use]
    pub fn new(slots: u32, quarantined: &[u32]) -> Self {
        let block = |slot| Block {
            state: if quarantined.contains(&slot) {
                State::Quarantined
            } else {
                State::Free
            },
            generation: 0,
            pins: 0,
            used: 0,
            seal: None,
        };
        let blocks: Vec<Block> = (0..slots).map(block).collect();
        let mut counts = Counts {
            total: slots,
            ..Counts::default()
        };
        for block in &blocks {
            *counts.of(block.state) += 1;
        }
        let free = (0..slots)
            .rev()
            .filter(|s| !quarantined.contains(s))
            .collect();
        Self {
            blocks,
            free,
            cached: BTreeSet::new(),
            leaves: BTreeSet::new(),
            index: PrefixIndex::default(),
            counts,
            clock: 0,
            changes: Vec::new(),
        }
    }

    /// Pins and returns the longest run of blocks that begins this sequence. `hashes` are its sequence hashes.
    pub fn find(
        &mut self,
        hashes: &[u64],
        tokens: &[u32],
        block_tokens: u32,
        seed: u64,
    ) -> Vec<SlotRef> {
        let mut run = Vec::new();
        if block_tokens == 0 {
            return run;
        }
        let mut parent = None;
        for (hash, tokens) in hashes
            .iter()
            .zip(tokens.chunks_exact(block_tokens as usize))
        {
            let Some(slot) = self.index.get(*hash) else {
                break;
            };
            if !self.holds(slot, parent, seed, tokens) {
                break;
            }
            self.add_pin(slot);
            run.push(self.reference(slot));
            parent = Some(*hash);
        }
        run
    }

    /// Takes `n` blocks, free ones first, then cached ones, the longest unused first and heads after tails. All or nothing.
    pub fn reserve(&mut self, n: usize) -> Option<Vec<SlotRef>> {
        if n > self.available() as usize {
            return None;
        }
        let mut taken = Vec::with_capacity(n);
        while taken.len() < n {
            let slot = match self.free.pop() {
                Some(slot) => slot,
                None => {
                    self.evict();
                    continue;
                }
            };
            self.enter(slot, State::Reserved);
            let block = &mut self.blocks[slot as usize];
            block.generation = block.generation.wrapping_add(1);
            taken.push(self.reference(slot));
        }
        Some(taken)
    }

    /// A reserved block begins to be written. False if it is not reserved.
    pub fn fill(&mut self, slot: SlotRef) -> bool {
        self.step(slot, &[State::Reserved], State::Filling)
    }

    /// A block is full and final; it has one pin, and is found from now on unless its like is known already.
    pub fn seal(&mut self, slot: SlotRef, seal: Seal) -> bool {
        if !self.step(slot, &[State::Filling], State::Sealed) {
            return false;
        }
        let block = &mut self.blocks[slot.slot as usize];
        block.pins = 1;
        block.seal = Some(seal);
        self.admit(slot.slot);
        true
    }

    /// One more user of a sealed or cached block.
    pub fn pin(&mut self, slot: SlotRef) -> bool {
        let may = self.may(slot, &[State::Sealed, State::Cached]);
        if may {
            self.add_pin(slot.slot);
        }
        may
    }

    /// One user less; after the last the block stays cached, or is free if it cannot be found.
    pub fn unpin(&mut self, slot: SlotRef) -> bool {
        if !self.may(slot, &[State::Sealed]) {
            return false;
        }
        let block = &mut self.blocks[slot.slot as usize];
        block.pins -= 1;
        if block.pins == 0 {
            self.rest(slot.slot);
        }
        true
    }

    /// A block that was reserved or being written is not needed, and nothing can write into it.
    pub fn free(&mut self, slot: SlotRef) -> bool {
        let may = self.may(slot, &[State::Reserved, State::Filling]);
        if may {
            self.release(slot.slot);
        }
        may
    }

    /// A block is not needed, but something may still write into it.
    pub fn quarantine(&mut self, slot: SlotRef) -> bool {
        self.step(slot, &[State::Reserved, State::Filling], State::Quarantined)
    }

    /// Nothing can write into a quarantined block any more.
    pub fn settle(&mut self, slot: SlotRef) -> bool {
        let may = self.may(slot, &[State::Quarantined]);
        if may {
            self.release(slot.slot);
        }
        may
    }

    /// State of a slot; none past the end.
    #[must_use]
    pub fn state(&self, slot: u32) -> Option<State> {
        self.blocks.get(slot as usize).map(|b| b.state)
    }

    /// Generation of a slot; none past the end.
    #[must_use]
    pub fn generation(&self, slot: u32) -> Option<u32> {
        self.blocks.get(slot as usize).map(|b| b.generation)
    }

    /// Blocks in each state.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Blocks that [`Pool::reserve`] could give now.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.counts.free + self.counts.cached
    }

    /// What changed in what can be found, in order, since this was last called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Sequence hashes of all that can be found, each behind the block before it.
    #[must_use]
    pub fn indexed_hashes(&self) -> Vec<u64> {
        self.index
            .hashes(|slot| self.blocks[slot as usize].seal.as_ref())
    }

    fn reference(&self, slot: u32) -> SlotRef {
        SlotRef {
            slot,
            generation: self.blocks[slot as usize].generation,
        }
    }

    fn holds(&self, slot: u32, parent: Option<u64>, seed: u64, tokens: &[u32]) -> bool {
        let seal = self.blocks[slot as usize].seal.as_ref();
        seal.is_some_and(|s| s.parent == parent && s.seed == seed && *s.tokens == *tokens)
    }

    /// Whether the reference is the present one and its block in one of `from`. Anything else is a mistake of the caller.
    fn may(&self, slot: SlotRef, from: &[State]) -> bool {
        let block = self.blocks.get(slot.slot as usize);
        let may = block.is_some_and(|b| b.generation == slot.generation && from.contains(&b.state));
        debug_assert!(may, "{slot:?} is not one of {from:?}: {block:?}");
        may
    }

    fn step(&mut self, slot: SlotRef, from: &[State], to: State) -> bool {
        let may = self.may(slot, from);
        if may {
            self.enter(slot.slot, to);
        }
        may
    }

    fn enter(&mut self, slot: u32, state: State) {
        let block = &mut self.blocks[slot as usize];
        *self.counts.of(block.state) -= 1;
        *self.counts.of(state) += 1;
        block.state = state;
    }

    fn release(&mut self, slot: u32) {
        self.enter(slot, State::Free);
        self.free.push(slot);
    }

    /// Lets a block that was just sealed be found, unless that could mislead somebody.
    fn admit(&mut self, slot: u32) {
        let seals = |slot: u32| self.blocks[slot as usize].seal.as_ref();
        let Some(seal) = seals(slot) else { return };
        let Some(parent) = self.index.admit(slot, seal, seals) else {
            return;
        };
        self.changes.push(Change::Stored(seal.hash));
        if let Some(parent) = parent {
            self.refresh_leaf(parent);
        }
    }

    fn add_pin(&mut self, slot: u32) {
        let block = &mut self.blocks[slot as usize];
        block.pins += 1;
        let key = (block.used, slot);
        if block.state == State::Cached {
            self.cached.remove(&key);
            self.leaves.remove(&key);
            self.enter(slot, State::Sealed);
        }
    }

    /// The last user of a sealed block let go.
    fn rest(&mut self, slot: u32) {
        if !self.index.contains(slot) {
            return self.drop_seal(slot);
        }
        self.clock += 1;
        self.blocks[slot as usize].used = self.clock;
        self.cached.insert((self.clock, slot));
        self.enter(slot, State::Cached);
        self.refresh_leaf(slot);
    }

    /// Frees a block that holds something and has no user.
    fn drop_seal(&mut self, slot: u32) {
        if let Some(seal) = self.blocks[slot as usize].seal.take() {
            self.index.forget_hidden(seal.hash, slot);
        }
        self.release(slot);
    }

    /// Keeps `leaves` true for one slot.
    fn refresh_leaf(&mut self, slot: u32) {
        let block = &self.blocks[slot as usize];
        let key = (block.used, slot);
        if block.state == State::Cached && !self.index.has_children(slot) {
            self.leaves.insert(key);
        } else {
            self.leaves.remove(&key);
        }
    }

    /// Frees at least one cached block: a leaf if there is one; else one whose followers are in use, and these can then not be found.
    fn evict(&mut self) {
        let victim = self.leaves.first().or_else(|| self.cached.first());
        let Some((_, slot)) = victim.copied() else {
            return;
        };
        self.remove(slot);
    }

    /// Takes a block and all that follow it out of the index; those without a user become free.
    fn remove(&mut self, slot: u32) {
        let mut doomed = vec![slot];
        while let Some(slot) = doomed.pop() {
            doomed.extend(self.index.children(slot));
            let block = &self.blocks[slot as usize];
            let (state, key) = (block.state, (block.used, slot));
            let Some(seal) = &block.seal else { continue };
            let parent = self.index.remove(slot, seal);
            self.changes.push(Change::Removed(seal.hash));
            if state == State::Cached {
                self.cached.remove(&key);
                self.leaves.remove(&key);
                self.drop_seal(slot);
            }
            if let Some(parent) = parent {
                self.refresh_leaf(parent);
            }
        }
    }
}
