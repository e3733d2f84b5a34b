//! The pool as one would explain it: a row per block, every question answered by looking at all rows.

use bus_schemas::messages::SlotRef;
use logic::kv::{Change, Counts, Seal, State};

use crate::BLOCK_TOKENS;

#[derive(Clone)]
struct Row {
    state: State,
    generation: u32,
    pins: u32,
    used: u64,
    seal: Option<Seal>,
    /// Slot of the indexed parent, if the block can be found.
    found: Option<Option<u32>>,
    clashes: bool,
}

pub(crate) struct Model {
    rows: Vec<Row>,
    free: Vec<u32>,
    clock: u64,
    changes: Vec<Change>,
}

impl Model {
    pub(crate) fn new(slots: u32, quarantined: &[u32]) -> Self {
        let row = |slot| Row {
            state: if quarantined.contains(&slot) {
                State::Quarantined
            } else {
                State::Free
            },
            generation: 0,
            pins: 0,
            used: 0,
            seal: None,
            found: None,
            clashes: false,
        };
        Self {
            rows: (0..slots).map(row).collect(),
            free: (0..slots)
                .rev()
                .filter(|s| !quarantined.contains(s))
                .collect(),
            clock: 0,
            changes: Vec::new(),
        }
    }

    pub(crate) fn state(&self, slot: u32) -> State {
        self.row(slot).state
    }

    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.row(slot).generation
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn indexed_hashes(&self) -> Vec<u64> {
        let found = self.rows.iter().filter(|r| r.found.is_some());
        let mut hashes: Vec<u64> = found.filter_map(|r| Some(r.seal.as_ref()?.hash)).collect();
        hashes.sort_unstable();
        hashes
    }

    pub(crate) fn counts(&self) -> Counts {
        let count = |state| self.all(|r| r.state == state).len() as u32;
        Counts {
            free: count(State::Free),
            reserved: count(State::Reserved),
            filling: count(State::Filling),
            sealed: count(State::Sealed),
            cached: count(State::Cached),
            quarantined: count(State::Quarantined),
            total: self.rows.len() as u32,
        }
    }

    pub(crate) fn find(&mut self, hashes: &[u64], tokens: &[u32], seed: u64) -> Vec<SlotRef> {
        let mut run = Vec::new();
        let mut parent = None;
        for (hash, block) in hashes.iter().zip(tokens.chunks(BLOCK_TOKENS as usize)) {
            let wanted = Seal {
                hash: *hash,
                parent,
                seed,
                tokens: block.into(),
            };
            let hits = self.all(|r| r.found.is_some() && r.seal.as_ref() == Some(&wanted));
            let Some(slot) = hits.first() else { break };
            self.pin(*slot);
            run.push(SlotRef {
                slot: *slot,
                generation: self.generation(*slot),
            });
            parent = Some(*hash);
        }
        run
    }

    pub(crate) fn reserve(&mut self, n: usize) -> Option<Vec<SlotRef>> {
        if self
            .all(|r| matches!(r.state, State::Free | State::Cached))
            .len()
            < n
        {
            return None;
        }
        let mut taken = Vec::new();
        while taken.len() < n {
            let Some(slot) = self.free.pop() else {
                self.evict();
                continue;
            };
            let row = self.row_mut(slot);
            row.state = State::Reserved;
            row.generation += 1;
            taken.push(SlotRef {
                slot,
                generation: row.generation,
            });
        }
        Some(taken)
    }

    /// The longest unused cached block that nothing follows; if all are followed, the longest unused.
    fn evict(&mut self) {
        let cached = self.all(|r| r.state == State::Cached);
        let leaves: Vec<u32> = cached
            .iter()
            .copied()
            .filter(|s| self.children(*s).is_empty())
            .collect();
        let among = if leaves.is_empty() { cached } else { leaves };
        let oldest = among.into_iter().min_by_key(|s| self.row(*s).used);
        self.unindex(oldest.expect("something is cached, or reserve would have refused"));
    }

    fn unindex(&mut self, slot: u32) {
        let hash = self
            .row(slot)
            .seal
            .as_ref()
            .expect("a found block is sealed")
            .hash;
        let children = self.children(slot);
        self.changes.push(Change::Removed(hash));
        self.row_mut(slot).found = None;
        if self.row(slot).state == State::Cached {
            self.free(slot);
        }
        for child in children.into_iter().rev() {
            self.unindex(child);
        }
    }

    fn children(&self, slot: u32) -> Vec<u32> {
        self.all(|r| r.found == Some(Some(slot)))
    }

    pub(crate) fn seal(&mut self, slot: u32, seal: Seal) {
        let named = |hash| self.all(|r| r.seal.as_ref().is_some_and(|s| s.hash == hash));
        let clashing = |hash| named(hash).into_iter().any(|s| self.row(s).clashes);
        let differs = |s: &u32| self.row(*s).seal.as_ref() != Some(&seal);
        let clashes = named(seal.hash).iter().any(differs)
            || clashing(seal.hash)
            || seal.parent.is_some_and(clashing);
        let found = |hash| {
            named(hash)
                .into_iter()
                .find(|s| self.row(*s).found.is_some())
        };
        let parent = match seal.parent {
            None => Some(None),
            Some(hash) => found(hash).map(Some),
        };
        let indexed = !clashes && found(seal.hash).is_none() && parent.is_some();
        if indexed {
            self.changes.push(Change::Stored(seal.hash));
        }
        let row = self.row_mut(slot);
        row.state = State::Sealed;
        row.pins = 1;
        row.seal = Some(seal);
        row.found = parent.filter(|_| indexed);
        row.clashes = clashes;
    }

    pub(crate) fn pin(&mut self, slot: u32) {
        let row = self.row_mut(slot);
        row.pins += 1;
        row.state = State::Sealed;
    }

    pub(crate) fn unpin(&mut self, slot: u32) {
        let row = self.row_mut(slot);
        row.pins -= 1;
        if row.pins > 0 {
            return;
        }
        if row.found.is_none() {
            return self.free(slot);
        }
        row.state = State::Cached;
        self.clock += 1;
        self.row_mut(slot).used = self.clock;
    }

    pub(crate) fn free(&mut self, slot: u32) {
        let row = self.row_mut(slot);
        row.state = State::Free;
        row.seal = None;
        row.found = None;
        row.clashes = false;
        self.free.push(slot);
    }

    pub(crate) fn enter(&mut self, slot: u32, state: State) {
        self.row_mut(slot).state = state;
    }

    fn all(&self, wanted: impl Fn(&Row) -> bool) -> Vec<u32> {
        (0u32..)
            .zip(&self.rows)
            .filter(|(_, r)| wanted(r))
            .map(|(slot, _)| slot)
            .collect()
    }

    fn row(&self, slot: u32) -> &Row {
        &self.rows[slot as usize]
    }

    fn row_mut(&mut self, slot: u32) -> &mut Row {
        &mut self.rows[slot as usize]
    }
}
