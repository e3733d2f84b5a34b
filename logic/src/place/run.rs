//! A run: up to 64 blocks that were stored one after another, and who holds which of them.
//!
//! A walk compares a run's hashes in place and reads a holder's front as the ones of a mask, so that neither looks
//! up a block by itself. A run never knows its nodes' names, nor where else a hash may be.

/// Blocks of a run: one bit each.
pub(super) const RUN_BLOCKS: usize = 64;

/// A node, and the blocks of one run that it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holder {
    /// The node's number.
    pub(super) node: u32,
    /// One bit for each block; none is no holder.
    pub(super) mask: u64,
}

/// Consecutive blocks.
#[derive(Debug)]
pub(super) struct Run {
    hashes: [u64; RUN_BLOCKS],
    len: u8,
    /// Blocks that anybody holds.
    held: u64,
    /// Most runs have one holder: it is kept in place.
    first: Holder,
    /// The others, by number; all of them above the first's.
    others: Vec<Holder>,
}

impl Run {
    pub(super) const fn new() -> Self {
        Self {
            hashes: [0; RUN_BLOCKS],
            len: 0,
            held: 0,
            first: Holder { node: 0, mask: 0 },
            others: Vec::new(),
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len as usize == RUN_BLOCKS
    }

    /// Blocks up to the last that is held.
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nobody holds any of it.
    pub(super) const fn is_free(&self) -> bool {
        self.held == 0
    }

    /// Bytes on the heap.
    pub(super) const fn heap_bytes(&self) -> usize {
        self.others.capacity() * size_of::<Holder>()
    }

    /// Whether somebody holds `hash` at that place.
    pub(super) const fn is_at(&self, at: usize, hash: u64) -> bool {
        at < self.len() && self.hashes[at] == hash && self.held >> at & 1 == 1
    }

    /// Appends a block, which its first holder is about to hold, and says where.
    pub(super) const fn push(&mut self, hash: u64) -> usize {
        let at = self.len();
        self.hashes[at] = hash;
        self.len += 1;
        at
    }

    /// A node holds a block; false if it did before.
    pub(super) fn hold(&mut self, at: usize, node: u32) -> bool {
        let bit = 1 << at;
        self.held |= bit;
        let holder = self.holder(node);
        let fresh = holder.mask & bit == 0;
        holder.mask |= bit;
        fresh
    }

    /// A node lets some of its blocks go; says which it had, and which of them nobody holds any more.
    pub(super) fn release(&mut self, node: u32, blocks: u64) -> (u64, u64) {
        let Some(holder) = self.find(node) else {
            return (0, 0);
        };
        let gone = holder.mask & blocks;
        if gone == 0 {
            return (0, 0);
        }
        let left = self.holder(node);
        left.mask &= !gone;
        if left.mask == 0 {
            self.forget(node);
        }
        let held = self.holders().fold(0, |all, holder| all | holder.mask);
        let lost = self.held & !held;
        self.held = held;
        self.len = (u64::BITS - held.leading_zeros()) as u8;
        (gone, lost)
    }

    /// Hash of a block.
    pub(super) const fn hash(&self, at: usize) -> u64 {
        self.hashes[at]
    }

    /// How many of `hashes` this run goes on with from `at`.
    pub(super) fn common(&self, at: usize, hashes: &[u64]) -> usize {
        let held = (self.held >> at).trailing_ones() as usize; // a block that nobody holds may be elsewhere by now
        let most = held.min(hashes.len());
        let (own, hashes) = (&self.hashes[at..at + most], &hashes[..most]);
        if own == hashes {
            return most; // nearly always, and compared in one sweep
        }
        let differs = own.iter().zip(hashes).position(|(own, other)| own != other);
        differs.unwrap_or(most)
    }

    /// Who holds any of it, by number.
    pub(super) fn holders(&self) -> impl Iterator<Item = &Holder> {
        let first = (self.first.mask != 0).then_some(&self.first);
        first.into_iter().chain(&self.others)
    }

    /// A node's blocks.
    pub(super) fn find(&self, node: u32) -> Option<&Holder> {
        if self.first.node == node {
            return Some(&self.first).filter(|first| first.mask != 0);
        }
        let at = self
            .others
            .binary_search_by_key(&node, |holder| holder.node);
        at.ok().map(|at| &self.others[at])
    }

    /// A node's blocks, to be added to.
    fn holder(&mut self, node: u32) -> &mut Holder {
        let fresh = Holder { node, mask: 0 };
        if self.first.mask == 0 {
            self.first = fresh;
        } else if node < self.first.node {
            self.others
                .insert(0, std::mem::replace(&mut self.first, fresh));
        }
        if self.first.node == node {
            return &mut self.first;
        }
        let at = self
            .others
            .binary_search_by_key(&node, |holder| holder.node);
        let at = at.unwrap_or_else(|at| {
            self.others.insert(at, fresh);
            at
        });
        &mut self.others[at]
    }

    fn forget(&mut self, node: u32) {
        if self.first.node == node {
            let next = (!self.others.is_empty()).then(|| self.others.remove(0));
            self.first = next.unwrap_or_default();
        } else {
            self.others.retain(|holder| holder.node != node);
        }
    }
}

impl Holder {
    /// How many blocks from `at` on it holds without a gap.
    pub(super) const fn front(&self, at: usize) -> usize {
        (self.mask >> at).trailing_ones() as usize
    }
}
