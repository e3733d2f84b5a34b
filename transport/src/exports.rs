//! What the worker lets others read: the owner's side of a ticket.
//!
//! Nothing is readable that was not exported, and nothing after its ticket was revoked; whoever moves bytes asks here
//! first. The table looks at bytes only for their sums, once for each block and grant, and never moves any.

use std::collections::{BTreeMap, HashMap};

use bus_schemas::{NodeRef, Ticket, messages::SlotRef};
use gpu::Region;

use crate::{Checks, Export, checks};

/// Blocks that may be read, by ticket and offer.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    by_ticket: HashMap<Ticket, BTreeMap<u32, Grant>>,
    /// Blocks served, for the choice of those that get a sum.
    served: u64,
}

#[derive(Debug)]
struct Grant {
    audience: NodeRef,
    slots: Vec<SlotRef>,
    /// Taken when a block is first served, and told ever after.
    sums: HashMap<u32, u32>,
}

impl Exports {
    /// Opens blocks to the audience; the same offer again replaces the earlier one.
    pub(crate) fn grant(&mut self, export: Export) {
        let mut slots = export.slots;
        slots.sort_unstable();
        let grant = Grant {
            audience: export.audience,
            slots,
            sums: HashMap::new(),
        };
        let offers = self.by_ticket.entry(export.ticket).or_default();
        offers.insert(export.seq, grant);
    }

    /// Closes all offers of a ticket.
    pub(crate) fn revoke(&mut self, ticket: Ticket) {
        self.by_ticket.remove(&ticket);
    }

    /// Whether this reader may read all of these blocks under this offer.
    pub(crate) fn allows(
        &self,
        (ticket, seq): (Ticket, u32),
        reader: NodeRef,
        mut slots: impl Iterator<Item = SlotRef>,
    ) -> bool {
        let offers = self.by_ticket.get(&ticket);
        offers
            .and_then(|offers| offers.get(&seq))
            .is_some_and(|grant| {
                grant.audience == reader
                    && slots.all(|slot| grant.slots.binary_search(&slot).is_ok())
            })
    }

    /// Sums of those blocks of an allowed read that the checks pick.
    pub(crate) fn sums(
        &mut self,
        (ticket, seq): (Ticket, u32),
        slots: impl Iterator<Item = SlotRef>,
        region: &Region,
        checks: Checks,
    ) -> Vec<Option<u32>> {
        let served = &mut self.served;
        let offers = self.by_ticket.get_mut(&ticket);
        let Some(grant) = offers.and_then(|offers| offers.get_mut(&seq)) else {
            return Vec::new();
        };
        let mut sum = |slot: u32| {
            *served += 1;
            let sum = || {
                *grant
                    .sums
                    .entry(slot)
                    .or_insert_with(|| checks::sum(region, slot))
            };
            checks.picks(*served).then(sum)
        };
        slots.map(|slot| sum(slot.slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};

    use super::*;

    const TICKET: Ticket = Ticket([7; 16]);

    fn node(epoch: u64) -> NodeRef {
        let node = NodeId::new("reader").expect("a fine name");
        let epoch = Epoch(epoch);
        NodeRef { node, epoch }
    }

    fn slot(slot: u32, generation: u32) -> SlotRef {
        SlotRef { slot, generation }
    }

    #[test]
    fn only_what_was_exported_may_be_read_and_only_by_its_audience() {
        let mut exports = Exports::default();
        exports.grant(Export {
            ticket: TICKET,
            seq: 3,
            audience: node(1),
            slots: vec![slot(9, 2), slot(4, 1)],
        });
        let check = |offer, reader, slots: &[SlotRef], expected: bool| {
            assert_eq!(
                exports.allows(offer, reader, slots.iter().copied()),
                expected
            );
        };
        check((TICKET, 3), node(1), &[slot(4, 1), slot(9, 2)], true);
        check((TICKET, 3), node(1), &[slot(9, 2)], true);
        check((TICKET, 3), node(2), &[slot(9, 2)], false);
        check((TICKET, 4), node(1), &[slot(9, 2)], false);
        check((Ticket([8; 16]), 3), node(1), &[slot(9, 2)], false);
        check((TICKET, 3), node(1), &[slot(9, 3)], false);
        check((TICKET, 3), node(1), &[slot(9, 2), slot(5, 1)], false);
    }

    #[test]
    fn a_revoked_ticket_opens_nothing() {
        let mut exports = Exports::default();
        exports.grant(Export {
            ticket: TICKET,
            seq: 0,
            audience: node(1),
            slots: vec![slot(1, 1)],
        });
        exports.revoke(TICKET);
        assert!(!exports.allows((TICKET, 0), node(1), [slot(1, 1)].into_iter()));
    }
}
