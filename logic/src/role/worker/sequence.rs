//! One run of tokens and the blocks that hold its keys and values.
//!
//! A sequence owns its blocks: those at the front are sealed and pinned, the rest are being filled. It
//! never decides when to run; it only keeps ids, blocks and the pool in step.

use bus_schemas::messages::SlotRef;

use crate::{
    hash,
    kv::{Pool, Seal},
};

/// Ids, how many of them have keys and values, and where.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Prompt and output.
    pub(super) ids: Vec<u32>,
    /// Positions whose keys and values are in `table`.
    pub(super) computed: u32,
    /// Blocks in order.
    pub(super) table: Vec<SlotRef>,
    /// Sequence hashes of the sealed blocks at the front of `table`.
    hashes: Vec<u64>,
    seed: u64,
    block_tokens: u32,
}

impl Sequence {
    pub(super) fn new(seed: u64, block_tokens: u32, ids: Vec<u32>) -> Self {
        Self {
            ids,
            computed: 0,
            table: Vec::new(),
            hashes: Vec::new(),
            seed,
            block_tokens,
        }
    }

    /// The same ids without blocks.
    pub(super) fn successor(&self) -> Self {
        Self::new(self.seed, self.block_tokens, self.ids.clone())
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.ids.len()).expect("sequences are bounded by the context length")
    }

    /// Positions that still have to be run.
    pub(super) fn pending(&self) -> u32 {
        self.len() - self.computed
    }

    /// Blocks that are sealed and pinned by this sequence.
    pub(super) fn sealed(&self) -> usize {
        self.hashes.len()
    }

    /// Pins the cached blocks that begin this sequence, leaving at least one of the first `target` tokens to run.
    pub(super) fn attach_cached(&mut self, pool: &mut Pool, target: u32) -> u32 {
        debug_assert!(
            self.table.is_empty(),
            "only a sequence without blocks can attach"
        );
        let usable = (target.saturating_sub(1) / self.block_tokens * self.block_tokens) as usize;
        let tokens = &self.ids[..usable];
        let hashes = hash::sequence_hashes(self.seed, tokens, self.block_tokens);
        self.table = pool.find(&hashes, tokens, self.block_tokens, self.seed);
        self.hashes = hashes[..self.table.len()].to_vec();
        self.computed = self.tokens_in(self.table.len());
        self.computed
    }

    /// Blocks that must be added to hold `positions`.
    pub(super) fn lacking(&self, positions: u32) -> usize {
        (positions.div_ceil(self.block_tokens) as usize).saturating_sub(self.table.len())
    }

    /// Adds blocks for `positions`, from `spare` and then from the pool; false (nothing lost) if there is none.
    pub(super) fn extend(
        &mut self,
        pool: &mut Pool,
        spare: &mut Vec<SlotRef>,
        positions: u32,
    ) -> bool {
        while self.lacking(positions) > 0 {
            let Some(slot) = next_block(pool, spare) else {
                return false;
            };
            self.table.push(slot);
        }
        true
    }

    /// Appends a block that is already filled up to `computed`; called with blocks in order.
    pub(super) fn append(&mut self, slot: SlotRef) {
        self.table.push(slot);
    }

    /// Positions up to `computed` now have keys and values: seals what is full.
    pub(super) fn advance(&mut self, pool: &mut Pool, computed: u32) {
        debug_assert!(
            computed <= self.len() && computed >= self.computed,
            "only forward"
        );
        self.computed = computed;
        for index in self.hashes.len()..(computed / self.block_tokens) as usize {
            let from = self.tokens_in(index) as usize;
            let tokens = &self.ids[from..from + self.block_tokens as usize];
            let parent = self.hashes.last().copied();
            let hash = hash::chain(parent, hash::block_hash(self.seed, tokens));
            let seal = Seal {
                hash,
                parent,
                seed: self.seed,
                tokens: tokens.into(),
            };
            pool.seal(self.table[index], seal);
            self.hashes.push(hash);
        }
    }

    /// Shares the sealed blocks that hold the first `positions` with another sequence of the same ids.
    pub(super) fn share(&self, pool: &mut Pool, other: &mut Self, positions: u32) {
        debug_assert!(
            other.table.is_empty(),
            "only a sequence without blocks can be given some"
        );
        let blocks = (positions / self.block_tokens) as usize;
        for slot in &self.table[..blocks] {
            pool.pin(*slot);
        }
        other.table = self.table[..blocks].to_vec();
        other.hashes = self.hashes[..blocks].to_vec();
        other.computed = self.tokens_in(blocks);
    }

    /// Gives its blocks to another sequence that begins with the same ids.
    pub(super) fn hand_over(&mut self, other: &mut Self) {
        debug_assert!(
            other.table.is_empty(),
            "only a sequence without blocks can be given some"
        );
        other.table = std::mem::take(&mut self.table);
        other.hashes = std::mem::take(&mut self.hashes);
        other.computed = std::mem::take(&mut self.computed);
    }

    /// Lets all blocks go: sealed ones stay cached, the rest is free.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        let sealed = self.hashes.len();
        // From the tail, so that of one chain the tail is the older entry of the cache and goes first.
        for (index, slot) in std::mem::take(&mut self.table)
            .into_iter()
            .enumerate()
            .rev()
        {
            if index < sealed {
                pool.unpin(slot);
            } else {
                pool.free(slot);
            }
        }
        self.hashes.clear();
        self.computed = 0;
    }

    /// Slots in order, for the engine.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.table.iter().map(|s| s.slot).collect()
    }

    fn tokens_in(&self, blocks: usize) -> u32 {
        u32::try_from(blocks).expect("a table is bounded by the pool") * self.block_tokens
    }
}

/// A block to be filled, from what was reserved before or from the pool.
pub(super) fn next_block(pool: &mut Pool, spare: &mut Vec<SlotRef>) -> Option<SlotRef> {
    let slot = spare
        .pop()
        .or_else(|| pool.reserve(1).and_then(|mut slots| slots.pop()))?;
    pool.fill(slot);
    Some(slot)
}
