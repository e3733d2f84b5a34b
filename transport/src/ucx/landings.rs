//! Where pushed blocks may land: the receiver's choice, looked up at the moment a block arrives.
//!
//! A block lands only if its take is still alive, asked for it, has not got it yet, and its generation and
//! length are right. The table never touches memory; it names a slot or refuses.

use std::collections::HashMap;

use bus_schemas::NodeRef;

use super::message::BlockHeader;
use crate::Piece;

/// Open landings by the random number that the owner was told.
#[derive(Debug, Default)]
pub(super) struct Landings {
    open: HashMap<u64, Landing>,
    /// Where owners that were greeted show their pattern, once.
    proofs: HashMap<u64, NodeRef>,
}

#[derive(Debug)]
struct Landing {
    take: u64,
    pieces: Vec<Piece>,
    asked: usize,
    seen: Vec<bool>,
}

/// What becomes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It lands in this slot.
    Into {
        take: u64,
        slot: u32,
        sum: Option<u32>,
    },
    /// It is the pattern of an owner that was greeted; it lands in no slot.
    Proof { owner: NodeRef },
    /// Nobody waits for it any more.
    Late,
    /// It is not what this take asked for.
    Wrong { take: u64 },
}

impl Landings {
    /// Opens a landing for a take.
    pub(super) fn open(&mut self, landing: u64, take: u64, pieces: Vec<Piece>) {
        let seen = vec![false; pieces.len()];
        let row = Landing {
            take,
            pieces,
            asked: 0,
            seen,
        };
        self.open.insert(landing, row);
    }

    /// Opens a landing for one block of an owner's pattern.
    pub(super) fn expect(&mut self, landing: u64, owner: NodeRef) {
        self.proofs.insert(landing, owner);
    }

    /// No pattern of this owner is waited for any more.
    pub(super) fn expect_none(&mut self, owner: NodeRef) {
        self.proofs.retain(|_, expected| *expected != owner);
    }

    /// Nothing lands here any more.
    pub(super) fn close(&mut self, landing: u64) {
        self.open.remove(&landing);
    }

    /// Which take a landing is for.
    pub(super) fn take_of(&self, landing: u64) -> Option<u64> {
        self.open.get(&landing).map(|row| row.take)
    }

    /// Lets the next `count` pieces land, and names them: the index of the first, and all.
    pub(super) fn ask(&mut self, landing: u64, count: usize) -> Option<(u32, &[Piece])> {
        let row = self.open.get_mut(&landing)?;
        let first = row.asked;
        row.asked = (first + count).min(row.pieces.len());
        Some((u32::try_from(first).ok()?, &row.pieces[first..row.asked]))
    }

    /// Decides about a block that arrived; `fits` says whether its length is that of a slot.
    pub(super) fn claim(&mut self, header: BlockHeader, fits: bool) -> Claim {
        if let Some(owner) = self.proofs.remove(&header.landing) {
            return Claim::Proof { owner };
        }
        let Some(row) = self.open.get_mut(&header.landing) else {
            return Claim::Late;
        };
        let take = row.take;
        let index = header.index as usize;
        let Some(piece) = row.pieces[..row.asked].get(index) else {
            return Claim::Wrong { take };
        };
        if !fits || row.seen[index] || piece.from.generation != header.generation {
            return Claim::Wrong { take };
        }
        row.seen[index] = true;
        let slot = piece.to.slot;
        let sum = header.sum;
        Claim::Into { take, slot, sum }
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::messages::SlotRef;

    use super::*;

    fn landings() -> Landings {
        let mut landings = Landings::default();
        let slot = |slot, generation| SlotRef { slot, generation };
        let piece = |index: u32| Piece {
            from: slot(index, 3),
            to: slot(10 + index, 1),
        };
        landings.open(99, 7, (0..4).map(piece).collect());
        landings
    }

    fn header(landing: u64, index: u32, generation: u32) -> BlockHeader {
        BlockHeader {
            landing,
            index,
            generation,
            sum: None,
        }
    }

    #[test]
    fn a_block_lands_once_where_the_take_chose() {
        let mut landings = landings();
        assert_eq!(
            landings
                .ask(99, 2)
                .map(|(first, pieces)| (first, pieces.len())),
            Some((0, 2))
        );
        let into = Claim::Into {
            take: 7,
            slot: 11,
            sum: None,
        };
        assert_eq!(landings.claim(header(99, 1, 3), true), into);
        assert_eq!(
            landings.claim(header(99, 1, 3), true),
            Claim::Wrong { take: 7 }
        );
        assert_eq!(
            landings
                .ask(99, 9)
                .map(|(first, pieces)| (first, pieces.len())),
            Some((2, 2))
        );
    }

    #[test]
    fn a_pattern_is_waited_for_once_and_lands_in_no_slot() {
        let mut landings = landings();
        let owner = NodeRef::NONE;
        landings.expect(5, owner);
        let proof = Claim::Proof { owner };
        assert_eq!(landings.claim(header(5, 0, 0), true), proof);
        assert_eq!(landings.claim(header(5, 0, 0), true), Claim::Late);
        landings.expect(6, owner);
        landings.expect_none(owner);
        assert_eq!(landings.claim(header(6, 0, 0), true), Claim::Late);
    }

    #[test]
    fn what_was_not_asked_for_does_not_land() {
        let mut landings = landings();
        landings.ask(99, 2);
        let wrong = Claim::Wrong { take: 7 };
        for (header, fits, expected) in [
            (header(99, 2, 3), true, wrong),
            (header(99, u32::MAX, 3), true, wrong),
            (header(99, 0, 2), true, wrong),
            (header(99, 0, 3), false, wrong),
            (header(98, 0, 3), true, Claim::Late),
        ] {
            assert_eq!(landings.claim(header, fits), expected);
        }
        landings.close(99);
        assert_eq!(landings.claim(header(99, 0, 3), true), Claim::Late);
    }
}
