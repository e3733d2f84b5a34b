//! The reader's side of a lane: takes, what was asked for, and what has landed.
//!
//! It asks for a bounded window of blocks and for more as they land, so an owner can never flood it, and a take
//! that has ended has at most the window of its blocks on the way, none of which will land.

use std::time::Instant;

use bus_schemas::NodeRef;

use super::{
    arrivals::Landing,
    lane::{FROZEN, Lane},
    message::{Control, WINDOW},
};
use crate::{Failure, Take};

/// Blocks asked for at once, so that questions are few.
const BATCH: usize = 8;
/// Bytes asked for and not yet here, of one take.
const WINDOW_BYTES: usize = 64 << 20;

const _: () = assert!(BATCH * 2 <= WINDOW);

/// A take under way.
pub(super) struct Reading {
    pub(super) take: Take,
    /// The random number that names it to the owner.
    landing: u64,
    asked: usize,
    landed: usize,
    /// When it last moved.
    moved: Instant,
}

impl Reading {
    /// Whether nothing has come for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        now.duration_since(self.moved) >= FROZEN
    }

    /// How many blocks to ask for now.
    fn wish(&self, slot_bytes: usize) -> usize {
        let window = (WINDOW_BYTES / slot_bytes).clamp(2, WINDOW);
        let batch = BATCH.min(window / 2);
        let left = self.take.pieces.len() - self.asked;
        let room = window - (self.asked - self.landed);
        if room >= batch { room.min(left) } else { 0 }
    }
}

impl Lane {
    /// Starts a take.
    pub(super) fn open(&mut self, take: Take) {
        let now = Instant::now();
        if !self.book.open(&take, self.config.region.slots(), now) {
            return;
        }
        let (id, owner) = (take.id, take.owner);
        let address = match self.peers.get(owner).copied() {
            Some(Ok(address)) => address,
            Some(Err(failure)) => return self.fail(id, failure),
            None => return self.fail(id, Failure::Unreachable),
        };
        let Ok(landing) = getrandom::u64() else {
            return self.fail(id, Failure::Overload);
        };
        let mut landings = self.worker.arrivals().landings.borrow_mut();
        landings.open(landing, id, take.pieces.clone());
        drop(landings);
        let reading = Reading {
            take,
            landing,
            asked: 0,
            landed: 0,
            moved: now,
        };
        self.reading.insert(id, reading);
        if self.greet(owner, address) {
            self.ask(id);
        }
    }

    /// Asks for as many blocks of a take as may be on the way.
    pub(super) fn ask(&mut self, id: u64) {
        let Some(reading) = self.reading.get_mut(&id) else {
            return;
        };
        let peer = reading.take.owner;
        let Some(owner) = self.owners.get(&peer).filter(|owner| owner.welcomed) else {
            return;
        };
        let count = reading.wish(self.config.region.slot_bytes());
        // A take of no blocks asks once, to be allowed or denied.
        if count == 0 && !reading.take.pieces.is_empty() {
            return;
        }
        let mut landings = self.worker.arrivals().landings.borrow_mut();
        let Some((first, pieces)) = landings.ask(reading.landing, count) else {
            return;
        };
        let question = Control::Ask {
            landing: reading.landing,
            offer: (reading.take.ticket, reading.take.seq),
            first,
            slots: pieces.iter().map(|piece| piece.from).collect(),
        };
        drop(landings);
        reading.asked += count;
        if !self.worker.tell(&owner.endpoint, &question) {
            self.lose(peer);
        }
    }

    /// An owner denies a take, or allows one of no blocks. False if the answer makes no sense.
    pub(super) fn answered(&mut self, owner: NodeRef, landing: u64, allowed: bool) -> bool {
        let id = self.worker.arrivals().landings.borrow().take_of(landing);
        // A take that has ended meanwhile needs no answer.
        let Some((id, reading)) = id.and_then(|id| Some((id, self.reading.get(&id)?))) else {
            return true;
        };
        let take = &reading.take;
        if take.owner != owner || (allowed && !take.pieces.is_empty()) {
            return false;
        }
        self.end(
            id,
            if allowed {
                Ok(())
            } else {
                Err(Failure::Denied)
            },
        );
        true
    }

    /// A block is in its slot, or will never be.
    pub(super) fn landed(&mut self, id: u64, began: bool, end: Landing) {
        let now = Instant::now();
        let blamed = self.book.blamed(id, now); // before the last operation settles the take
        if end == Landing::Well {
            self.book
                .landed(id, self.config.region.slot_bytes() as u64, now);
        }
        if began {
            self.book.finish(id);
        }
        match end {
            Landing::Well => {}
            Landing::Lost => return self.fail(id, Failure::PeerLost),
            Landing::Corrupt => return self.corrupt(id, blamed),
        }
        let Some(reading) = self.reading.get_mut(&id) else {
            return;
        };
        reading.landed += 1;
        reading.moved = now;
        if reading.landed == reading.take.pieces.len() {
            self.end(id, Ok(()));
        } else {
            self.ask(id);
        }
    }

    /// A block of this take is corrupt: nothing more is read from its owner, if that is to blame.
    fn corrupt(&mut self, id: u64, blamed: Option<NodeRef>) {
        self.fail(id, Failure::Corrupt);
        if let Some(owner) = blamed {
            self.lose(owner);
            self.peers.shun(owner, "a block arrived corrupt");
        }
    }

    pub(super) fn fail(&mut self, id: u64, failure: Failure) {
        self.end(id, Err(failure));
    }

    /// Ends a take: from here on nothing lands for it.
    fn end(&mut self, id: u64, result: Result<(), Failure>) {
        let reading = self.reading.remove(&id);
        if let Some(reading) = &reading {
            self.worker
                .arrivals()
                .landings
                .borrow_mut()
                .close(reading.landing);
        }
        self.book.end(id, result);
        if let Some(reading) = reading {
            self.linger(id, reading.take.owner);
        }
    }
}
