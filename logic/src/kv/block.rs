//! One block: where it is in its life, what it holds, and the counts of many.
//!
//! Plain values; only the pool changes them.

/// Where a block is in its life: `Free -> Reserved -> Filling -> Sealed -> Cached -> Free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nobody's.
    Free,
    /// Promised to somebody, not yet written.
    Reserved,
    /// Being written.
    Filling,
    /// Full, final and in use: it has at least one pin.
    Sealed,
    /// Full, final and not in use: found by the next one who wants it, or evicted.
    Cached,
    /// Kept from use until nothing can write into it any more.
    Quarantined,
}

/// What a sealed block holds: its name and all that the name must be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Its sequence hash.
    pub hash: u64,
    /// The sequence hash of the block before it.
    pub parent: Option<u64>,
    /// The seed of its tenant.
    pub seed: u64,
    /// Its tokens.
    pub tokens: Box<[u32]>,
}

/// Something that routers want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A block with this sequence hash can be found.
    Stored(u64),
    /// It can no longer.
    Removed(u64),
}

/// How many blocks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the states")]
pub struct Counts {
    pub free: u32,
    pub reserved: u32,
    pub filling: u32,
    pub sealed: u32,
    pub cached: u32,
    pub quarantined: u32,
    /// The sum.
    pub total: u32,
}

impl Counts {
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

/// A row of the pool's books.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) state: State,
    /// Raised each time the slot is reserved, so that an old reference is told from a new one.
    pub(super) generation: u32,
    /// Users, while sealed.
    pub(super) pins: u32,
    /// When its last user let go; orders eviction.
    pub(super) used: u64,
    /// What it holds, while sealed or cached.
    pub(super) seal: Option<Seal>,
}
