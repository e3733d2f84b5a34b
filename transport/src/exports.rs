//! What the worker lets others read: the owner's side of a ticket, and the sums of what it opened.
//!
//! Nothing is readable that was not exported, and nothing after its ticket was revoked; whoever moves bytes asks here
//! first, and again for what had to wait. Blocks are looked at only for their sums, never while the table is locked.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bus_schemas::{NodeRef, Ticket, messages::SlotRef};
use gpu::Region;

use crate::{Checks, Export, checks};

/// Which offer of which ticket.
pub(crate) type Offer = (Ticket, u32);

/// Blocks that may be read. Shared by the fabric's methods and its threads.
#[derive(Debug)]
pub(crate) struct Exports {
    region: Arc<Region>,
    checks: Checks,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_ticket: HashMap<Ticket, BTreeMap<u32, Grant>>,
    /// Blocks that get a sum and have none yet, in the order of their grants.
    unsummed: VecDeque<Due>,
    granted: u64,
}

#[derive(Debug)]
struct Grant {
    audience: NodeRef,
    /// In order.
    slots: Vec<SlotRef>,
    /// Tells this grant from one that replaced it.
    serial: u64,
    /// What blocks summed up to when they were opened, and are told to sum up to ever after.
    sums: HashMap<SlotRef, u32>,
}

/// A block whose sum is to be taken.
#[derive(Clone, Copy, Debug)]
struct Due {
    offer: Offer,
    serial: u64,
    slot: SlotRef,
}

impl Exports {
    pub(crate) fn new(region: &Arc<Region>, checks: Checks) -> Arc<Self> {
        Arc::new(Self {
            region: Arc::clone(region),
            checks,
            table: Mutex::default(),
        })
    }

    /// Opens blocks to the audience; the same offer again replaces the earlier one. True if sums are now to be taken.
    pub(crate) fn grant(&self, export: Export) -> bool {
        let mut slots = export.slots;
        slots.retain(|slot| slot.slot < self.region.slots()); // nobody can read what is not there
        slots.sort_unstable();
        let picked: Vec<SlotRef> = slots
            .iter()
            .copied()
            .filter(|slot| self.checks.picks(*slot))
            .collect();
        let offer = (export.ticket, export.seq);
        let mut table = self.table();
        table.granted += 1;
        let grant = Grant {
            audience: export.audience,
            slots,
            serial: table.granted,
            sums: HashMap::new(),
        };
        let serial = grant.serial;
        let due = |slot| Due {
            offer,
            serial,
            slot,
        };
        table.unsummed.extend(picked.into_iter().map(due));
        let offers = table.by_ticket.entry(export.ticket).or_default();
        offers.insert(export.seq, grant);
        !table.unsummed.is_empty()
    }

    /// Closes all offers of a ticket.
    pub(crate) fn revoke(&self, ticket: Ticket) {
        self.table().by_ticket.remove(&ticket);
    }

    /// Whether this reader may read all of these blocks under this offer now.
    pub(crate) fn allows(
        &self,
        offer: Offer,
        reader: NodeRef,
        mut slots: impl Iterator<Item = SlotRef>,
    ) -> bool {
        let table = self.table();
        let grant = table.grant(offer);
        grant.is_some_and(|grant| {
            grant.audience == reader && slots.all(|slot| grant.slots.binary_search(&slot).is_ok())
        })
    }

    /// Takes the oldest sum that is due, so that a block is summed when it is opened and not when it is asked for.
    /// False if none was. One block at a time: the caller has other things to do.
    pub(crate) fn sum_next(&self) -> bool {
        let due = self.table().next_due();
        due.is_some_and(|due| {
            self.take_sum(due);
            true
        })
    }

    /// Sums of those blocks of an allowed read that the checks pick; those still due are taken now.
    pub(crate) fn sums(
        &self,
        offer: Offer,
        slots: impl Iterator<Item = SlotRef>,
    ) -> Vec<Option<u32>> {
        let Some(serial) = self.table().grant(offer).map(|grant| grant.serial) else {
            return Vec::new();
        };
        let sum = |slot: SlotRef| {
            let due = Due {
                offer,
                serial,
                slot,
            };
            self.checks.picks(slot).then(|| self.sum(due))
        };
        slots.map(sum).collect()
    }

    fn sum(&self, due: Due) -> u32 {
        let known = self.table().sum(due);
        known.unwrap_or_else(|| self.take_sum(due))
    }

    /// Looks at the block, unlocked, and notes its sum if its grant still stands.
    fn take_sum(&self, due: Due) -> u32 {
        let sum = checks::sum(&self.region, due.slot.slot);
        let mut table = self.table();
        let offers = table.by_ticket.get_mut(&due.offer.0);
        let grant = offers.and_then(|offers| offers.get_mut(&due.offer.1));
        if let Some(grant) = grant.filter(|grant| grant.serial == due.serial) {
            grant.sums.insert(due.slot, sum);
        }
        sum
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder panics")
    }
}

impl Table {
    fn grant(&self, (ticket, seq): Offer) -> Option<&Grant> {
        self.by_ticket.get(&ticket)?.get(&seq)
    }

    fn sum(&self, due: Due) -> Option<u32> {
        let grant = self.grant(due.offer)?;
        grant
            .sums
            .get(&due.slot)
            .copied()
            .filter(|_| grant.serial == due.serial)
    }

    /// The oldest block that still needs its sum.
    fn next_due(&mut self) -> Option<Due> {
        while let Some(due) = self.unsummed.pop_front() {
            let stands = |grant: &Grant| grant.serial == due.serial;
            if self.grant(due.offer).is_some_and(stands) && self.sum(due).is_none() {
                return Some(due);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};

    use super::*;

    const TICKET: Ticket = Ticket([7; 16]);
    const SLOTS: u32 = 16;

    fn node(epoch: u64) -> NodeRef {
        let node = NodeId::new("reader").expect("a fine name");
        let epoch = Epoch(epoch);
        NodeRef { node, epoch }
    }

    fn slot(slot: u32, generation: u32) -> SlotRef {
        SlotRef { slot, generation }
    }

    fn exports() -> (Arc<Exports>, Arc<Region>) {
        let region = Region::new(SLOTS, 4096).expect("64 KiB");
        (Exports::new(&region, Checks::All), region)
    }

    fn grant(exports: &Exports, seq: u32, slots: &[SlotRef]) -> bool {
        exports.grant(Export {
            ticket: TICKET,
            seq,
            audience: node(1),
            slots: slots.to_vec(),
        })
    }

    #[test]
    fn only_what_was_exported_may_be_read_and_only_by_its_audience() {
        let (exports, _) = exports();
        grant(&exports, 3, &[slot(9, 2), slot(4, 1), slot(SLOTS, 1)]);
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
        check((TICKET, 3), node(1), &[slot(SLOTS, 1)], false);
    }

    #[test]
    fn a_revoked_ticket_opens_nothing() {
        let (exports, _) = exports();
        grant(&exports, 0, &[slot(1, 1)]);
        exports.revoke(TICKET);
        assert!(!exports.allows((TICKET, 0), node(1), [slot(1, 1)].into_iter()));
        assert!(!exports.sum_next(), "nothing is left to sum");
    }

    #[test]
    fn a_sum_is_of_what_was_opened_and_not_of_what_is_there_when_it_is_asked_for() {
        let (exports, region) = exports();
        let asked = || exports.sums((TICKET, 0), [slot(1, 1), slot(2, 1)].into_iter());
        assert!(grant(&exports, 0, &[slot(1, 1), slot(2, 1)]));
        while exports.sum_next() {}
        let opened = asked();
        region.write(2, 9, b"x");
        assert_eq!(asked(), opened);
        grant(&exports, 0, &[slot(1, 1), slot(2, 1)]);
        let anew = asked();
        assert_eq!(anew[0], opened[0]);
        assert_ne!(anew[1], opened[1], "what is exported anew gets a new sum");
    }

    #[test]
    fn a_sum_that_was_taken_for_an_earlier_grant_is_not_told_for_a_later_one() {
        let (exports, region) = exports();
        grant(&exports, 0, &[slot(1, 1)]);
        let earlier = exports.table().next_due().expect("one is due");
        region.write(1, 0, b"x");
        grant(&exports, 0, &[slot(1, 1)]);
        exports.take_sum(earlier);
        region.write(1, 0, b"y");
        let told = exports.sums((TICKET, 0), [slot(1, 1)].into_iter());
        assert_eq!(told, [Some(checks::sum(&region, 1))]);
    }
}
