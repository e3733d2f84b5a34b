//! Blocks that one reader asked for and that wait for their turn.
//!
//! To have been allowed once is not enough: each block's ticket and generation are asked about again at the moment it
//! would leave. The queue never sends and never touches a block.

use std::collections::VecDeque;

use bus_schemas::{NodeRef, messages::SlotRef};

use super::message::{BlockHeader, WINDOW};
use crate::{
    book::TAKES_MAX,
    exports::{Exports, Offer},
};

/// Blocks that wait for one reader: the windows of all takes it can have.
const QUEUE_MAX: usize = TAKES_MAX * WINDOW;

/// Waiting blocks, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Waiting>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Under which it was asked for.
    pub(super) offer: Offer,
    pub(super) slot: SlotRef,
    pub(super) header: BlockHeader,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send the block in this slot.
    Push(BlockHeader, u32),
    /// Tell the reader that nothing more comes to this landing.
    Deny(u64),
}

impl Queue {
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.0.len() + count <= QUEUE_MAX
    }

    pub(super) fn extend(&mut self, blocks: impl Iterator<Item = Waiting>) {
        self.0.extend(blocks);
    }

    /// Takes the oldest block, if it may still be read, or gives its whole landing up.
    pub(super) fn next(&mut self, reader: NodeRef, exports: &Exports) -> Option<Turn> {
        let Waiting {
            offer,
            slot,
            header,
        } = self.0.pop_front()?;
        if exports.allows(offer, reader, std::iter::once(slot)) {
            return Some(Turn::Push(header, slot.slot));
        }
        self.0
            .retain(|waiting| waiting.header.landing != header.landing);
        Some(Turn::Deny(header.landing))
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::Ticket;
    use gpu::Region;

    use super::*;
    use crate::{Checks, Export};

    const HELD: Ticket = Ticket([1; 16]);
    const REVOKED: Ticket = Ticket([2; 16]);
    const READER: NodeRef = NodeRef::NONE;

    fn slot(slot: u32, generation: u32) -> SlotRef {
        SlotRef { slot, generation }
    }

    fn waiting(ticket: Ticket, landing: u64, index: u32) -> Waiting {
        let header = BlockHeader {
            landing,
            index,
            generation: 1,
            sum: None,
        };
        let slot = slot(index, 1);
        Waiting {
            offer: (ticket, 0),
            slot,
            header,
        }
    }

    fn grant(exports: &Exports, ticket: Ticket, generation: u32) {
        exports.grant(Export {
            ticket,
            seq: 0,
            audience: READER,
            slots: (0..4).map(|index| slot(index, generation)).collect(),
        });
    }

    #[test]
    fn what_waits_under_a_ticket_that_was_revoked_meanwhile_is_never_sent() {
        let region = Region::new(4, 4096).expect("16 KiB");
        let exports = Exports::new(&region, Checks::Off);
        grant(&exports, HELD, 1);
        grant(&exports, REVOKED, 1);
        let mut queue = Queue::default();
        let (gone, kept) = (waiting(REVOKED, 7, 0), waiting(HELD, 8, 0));
        queue.extend([gone, kept, waiting(REVOKED, 7, 1)].into_iter());
        exports.revoke(REVOKED);
        let turns: Vec<Turn> = std::iter::from_fn(|| queue.next(READER, &exports)).collect();
        assert_eq!(turns, [Turn::Deny(7), Turn::Push(kept.header, 0)]);
    }

    #[test]
    fn what_waits_in_a_generation_that_is_over_is_never_sent() {
        let region = Region::new(4, 4096).expect("16 KiB");
        let exports = Exports::new(&region, Checks::Off);
        grant(&exports, HELD, 1);
        let mut queue = Queue::default();
        queue.extend([waiting(HELD, 7, 0)].into_iter());
        grant(&exports, HELD, 2);
        assert_eq!(queue.next(READER, &exports), Some(Turn::Deny(7)));
        assert_eq!(queue.next(READER, &exports), None);
    }
}
