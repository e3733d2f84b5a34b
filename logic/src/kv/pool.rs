//! The pool itself. Slots carry a generation, raised at each reservation, so that a late word about an
//! earlier use of a slot is recognised.
//!
//! Wrong use (another state, an old generation) changes nothing, says `false`, and stops a debug build.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bus_schemas::messages::SlotRef;

/// What a block is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Free,
    /// Promised to somebody who has not begun to fill it.
    Reserved,
    /// Being written.
    Filling,
    /// Complete, with users.
    Sealed,
    /// Complete, without users, can be found and can be evicted.
    Cached,
    /// Out of use until nothing can write into it.
    Quarantined,
}

/// Identity of a sealed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Its sequence hash.
    pub hash: u64,
    /// The sequence hash of the block before it.
    pub parent: Option<u64>,
    /// Seed of its tenant and salt.
    pub seed: u64,
    /// Its tokens.
    pub tokens: Box<[u32]>,
}

/// A change of what can be found here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A block with this sequence hash can be found.
    Stored(u64),
    /// It no longer can.
    Removed(u64),
}

/// Blocks in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the states are documented at `State`")]
pub struct Counts {
    pub free: u32,
    pub reserved: u32,
    pub filling: u32,
    pub sealed: u32,
    pub cached: u32,
    pub quarantined: u32,
    pub total: u32,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) generation: u32,
    pub(super) pins: u32,
    pub(super) seal: Option<Seal>,
    /// Place in the order of eviction, while cached.
    pub(super) used: u64,
}

/// All blocks of a worker.
#[derive(Debug)]
pub struct Pool {
    pub(super) slots: Vec<Slot>,
    pub(super) free: VecDeque<u32>,
    /// Cached blocks, least recently used first.
    pub(super) cached: BTreeSet<(u64, u32)>,
    /// Sealed and cached blocks that can be found. Only looked up, never iterated.
    pub(super) index: HashMap<u64, u32>,
    changes: Vec<Change>,
    clock: u64,
    counts: Counts,
}

impl Pool {
    /// A pool of `slots` free blocks, except those on which operations of an earlier epoch are outstanding.
    #[must_use]
    pub fn new(slots: u32, quarantined: &[u32]) -> Self {
        let held: BTreeSet<u32> = quarantined.iter().copied().filter(|s| *s < slots).collect();
        let state = |s| {
            if held.contains(&s) {
                State::Quarantined
            } else {
                State::Free
            }
        };
        let quarantined = u32::try_from(held.len()).unwrap_or(u32::MAX);
        Self {
            slots: (0..slots)
                .map(|s| Slot {
                    state: state(s),
                    generation: 0,
                    pins: 0,
                    seal: None,
                    used: 0,
                })
                .collect(),
            free: (0..slots).filter(|s| !held.contains(s)).collect(),
            cached: BTreeSet::new(),
            index: HashMap::new(),
            changes: Vec::new(),
            clock: 0,
            counts: Counts {
                free: slots - quarantined,
                quarantined,
                total: slots,
                ..Counts::default()
            },
        }
    }

    /// The longest run of blocks at the front of a sequence that is here; each is pinned.
    /// `hashes` are the sequence hashes of the full blocks of `tokens`.
    pub fn find(
        &mut self,
        hashes: &[u64],
        tokens: &[u32],
        block_tokens: u32,
        seed: u64,
    ) -> Vec<SlotRef> {
        let mut parent = None;
        let mut found = Vec::new();
        for (hash, block) in hashes
            .iter()
            .zip(tokens.chunks_exact(block_tokens as usize))
        {
            let Some(slot) = self.index.get(hash).copied() else {
                break;
            };
            let same = self.slots[slot as usize]
                .seal
                .as_ref()
                .is_some_and(|s| s.seed == seed && s.parent == parent && *s.tokens == *block);
            if !same {
                break;
            }
            let found_ref = SlotRef {
                slot,
                generation: self.slots[slot as usize].generation,
            };
            self.pin(found_ref);
            found.push(found_ref);
            parent = Some(*hash);
        }
        found
    }

    /// Reserves `count` blocks, free ones first, then the least recently used of the cache. All or nothing.
    pub fn reserve(&mut self, count: usize) -> Option<Vec<SlotRef>> {
        if count > self.available() as usize {
            return None;
        }
        Some((0..count).filter_map(|_| self.reserve_one()).collect())
    }

    fn reserve_one(&mut self) -> Option<SlotRef> {
        let slot = match self.free.pop_front() {
            Some(slot) => slot,
            None => {
                let (_, slot) = self.cached.pop_first()?;
                self.forget(slot);
                slot
            }
        };
        self.set(slot, State::Reserved);
        let row = &mut self.slots[slot as usize];
        row.generation = row.generation.wrapping_add(1);
        Some(SlotRef {
            slot,
            generation: row.generation,
        })
    }

    /// Removes a block from the index, if it is what the index points at.
    fn forget(&mut self, slot: u32) {
        let Some(seal) = self.slots[slot as usize].seal.take() else {
            return;
        };
        if self.index.get(&seal.hash) == Some(&slot) {
            self.index.remove(&seal.hash);
            self.changes.push(Change::Removed(seal.hash));
        }
    }

    /// `Reserved -> Filling`.
    pub fn fill(&mut self, slot: SlotRef) -> bool {
        self.step(slot, &[State::Reserved], State::Filling)
    }

    /// `Filling -> Sealed`, with one user. If a block of this identity can be found already, this one cannot.
    pub fn seal(&mut self, slot: SlotRef, seal: Seal) -> bool {
        if !self.step(slot, &[State::Filling], State::Sealed) {
            return false;
        }
        let row = &mut self.slots[slot.slot as usize];
        row.pins = 1;
        let hash = seal.hash;
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.index.entry(hash) {
            vacant.insert(slot.slot);
            row.seal = Some(seal);
            self.changes.push(Change::Stored(hash));
        }
        true
    }

    /// One more user of a sealed or cached block.
    pub fn pin(&mut self, slot: SlotRef) -> bool {
        if !self.expect(slot, &[State::Sealed, State::Cached]) {
            return false;
        }
        if self.slots[slot.slot as usize].state == State::Cached {
            self.cached
                .remove(&(self.slots[slot.slot as usize].used, slot.slot));
            self.set(slot.slot, State::Sealed);
        }
        self.slots[slot.slot as usize].pins += 1;
        true
    }

    /// One user less; without users the block is cached, or free if it cannot be found.
    pub fn unpin(&mut self, slot: SlotRef) -> bool {
        if !self.expect(slot, &[State::Sealed]) {
            return false;
        }
        let row = &mut self.slots[slot.slot as usize];
        row.pins -= 1;
        if row.pins > 0 {
            return true;
        }
        if row.seal.is_some() {
            self.clock += 1;
            self.slots[slot.slot as usize].used = self.clock;
            self.cached.insert((self.clock, slot.slot));
            self.set(slot.slot, State::Cached);
        } else {
            self.set(slot.slot, State::Free);
            self.free.push_back(slot.slot);
        }
        true
    }

    /// `Reserved | Filling -> Free`: nothing can write into it.
    pub fn free(&mut self, slot: SlotRef) -> bool {
        let done = self.step(slot, &[State::Reserved, State::Filling], State::Free);
        if done {
            self.free.push_back(slot.slot);
        }
        done
    }

    /// `Reserved | Filling -> Quarantined`: something may still write into it.
    pub fn quarantine(&mut self, slot: SlotRef) -> bool {
        self.step(slot, &[State::Reserved, State::Filling], State::Quarantined)
    }

    /// `Quarantined -> Free`: nothing can write into it any more.
    pub fn settle(&mut self, slot: SlotRef) -> bool {
        let done = self.step(slot, &[State::Quarantined], State::Free);
        if done {
            self.free.push_back(slot.slot);
        }
        done
    }

    /// State of a slot; none if there is no such slot.
    #[must_use]
    pub fn state(&self, slot: u32) -> Option<State> {
        self.slots.get(slot as usize).map(|s| s.state)
    }

    /// Blocks in each state.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Blocks that can be reserved.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.counts.free + self.counts.cached
    }

    /// What has changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Sequence hashes that can be found, sorted.
    #[must_use]
    pub fn indexed_hashes(&self) -> Vec<u64> {
        let mut hashes: Vec<u64> = self
            .slots
            .iter()
            .filter_map(|s| s.seal.as_ref().map(|seal| seal.hash))
            .collect();
        hashes.sort_unstable();
        hashes
    }

    fn expect(&self, slot: SlotRef, states: &[State]) -> bool {
        let good = self
            .slots
            .get(slot.slot as usize)
            .is_some_and(|s| s.generation == slot.generation && states.contains(&s.state));
        debug_assert!(
            good,
            "{slot:?} is not {states:?} but {:?}",
            self.state(slot.slot)
        );
        good
    }

    fn step(&mut self, slot: SlotRef, from: &[State], to: State) -> bool {
        let good = self.expect(slot, from);
        if good {
            self.set(slot.slot, to);
        }
        good
    }

    fn set(&mut self, slot: u32, to: State) {
        let from = std::mem::replace(&mut self.slots[slot as usize].state, to);
        *self.counts.of(from) -= 1;
        *self.counts.of(to) += 1;
    }
}

impl Counts {
    /// The count of one state.
    pub(super) const fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Free => &mut self.free,
            State::Reserved => &mut self.reserved,
            State::Filling => &mut self.filling,
            State::Sealed => &mut self.sealed,
            State::Cached => &mut self.cached,
            State::Quarantined => &mut self.quarantined,
        }
    }
}
