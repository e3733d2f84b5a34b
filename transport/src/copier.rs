//! Copies blocks from mapped memory into the region, a quantum at a time, round-robin between takes.
//!
//! It never waits and has no thread: whoever owns it calls [`Copier::step`] between looking at its other
//! work, so a cancelled take stops within one quantum.

use std::{collections::VecDeque, sync::Arc};

use gpu::Region;

use crate::{Piece, checks::Running};

/// Bytes copied before the next take has its turn: some 160 us, the longest that a cancel waits.
const QUANTUM_BYTES: usize = 1 << 20;

/// Memory that blocks are copied from. A slot stays mapped and readable while its source is held.
pub(crate) trait Source: Send + Sync {
    /// First byte of a slot, which the caller has checked to exist.
    fn slot(&self, slot: u32) -> *const u8;
}

impl Source for Region {
    fn slot(&self, slot: u32) -> *const u8 {
        Region::slot(self, slot)
    }
}

/// Copies under way.
pub(crate) struct Copier {
    region: Arc<Region>,
    turns: VecDeque<Copy>,
}

struct Copy {
    id: u64,
    pieces: Vec<Piece>,
    source: Arc<dyn Source>,
    /// What each piece must sum up to; none where this is shorter, or says so.
    sums: Vec<Option<u32>>,
    next: usize,
    offset: usize,
    running: Running,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    pub(crate) done: bool,
    /// A block is not what its owner has.
    pub(crate) corrupt: bool,
}

impl Copier {
    pub(crate) fn new(region: Arc<Region>) -> Self {
        let turns = VecDeque::new();
        Self { region, turns }
    }

    /// Queues a take whose pieces name existing slots on both sides, and whose source has slots of our size.
    pub(crate) fn start(
        &mut self,
        id: u64,
        pieces: Vec<Piece>,
        source: Arc<dyn Source>,
        sums: Vec<Option<u32>>,
    ) {
        self.turns.push_back(Copy {
            id,
            pieces,
            source,
            sums,
            next: 0,
            offset: 0,
            running: Running::default(),
        });
    }

    /// Forgets a take: nothing more is copied for it.
    pub(crate) fn stop(&mut self, id: u64) {
        self.turns.retain(|copy| copy.id != id);
    }

    /// Whether nothing is left to copy.
    pub(crate) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// Copies one quantum of the take whose turn it is.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let mut copy = self.turns.pop_front()?;
        let (bytes, corrupt) = copy.run(&self.region);
        let bytes = bytes as u64;
        let done = corrupt || copy.next == copy.pieces.len();
        let id = copy.id;
        if !done {
            self.turns.push_back(copy);
        }
        Some(Step {
            id,
            bytes,
            done,
            corrupt,
        })
    }
}

impl Copy {
    /// How many bytes it copied, and whether the last block was corrupt.
    fn run(&mut self, region: &Region) -> (usize, bool) {
        let slot_bytes = region.slot_bytes();
        let mut budget = QUANTUM_BYTES;
        while budget > 0 {
            let Some(piece) = self.pieces.get(self.next) else {
                break;
            };
            let bytes = budget.min(slot_bytes - self.offset);
            // SAFETY: both slots exist and have `slot_bytes` bytes (checked before `start`), so offset + bytes stays
            // inside; source and region are held; the worker's pool keeps the destination for this take alone. The owner
            // may rewrite a source that it has revoked: what we then read is raw bytes that its sum or the release handshake rejects.
            let landed = unsafe {
                let to = region.slot(piece.to.slot).add(self.offset);
                std::ptr::copy(
                    self.source.slot(piece.from.slot).add(self.offset),
                    to,
                    bytes,
                );
                std::slice::from_raw_parts(to, bytes)
            };
            let sum = self.sums.get(self.next).copied().flatten();
            if sum.is_some() {
                self.running.add(landed);
            }
            budget -= bytes;
            self.offset += bytes;
            if self.offset == slot_bytes {
                self.offset = 0;
                self.next += 1;
                let running = std::mem::take(&mut self.running);
                if sum.is_some_and(|sum| sum != running.value()) {
                    return (QUANTUM_BYTES - budget, true);
                }
            }
        }
        (QUANTUM_BYTES - budget, false)
    }
}
