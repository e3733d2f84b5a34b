//! Load that was just given to somebody who has not counted it yet.
//!
//! A booking is a guess. It never promises anything; it ends when the worker refuses, one beat after the
//! worker has taken it over (its load shows it then), or with one lease.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Attempt, NodeRef, Placement, RequestId,
    limits::{BEAT_US, LEASE_US},
    messages::Load,
};

use crate::{core::Micros, place::NodeLoad};

/// Bookings remembered at once, a few hundred bytes each; beyond it placement knows less, and goes on.
const BOOKINGS_MAX: usize = 1 << 16;

pub(super) type BookingKey = (RequestId, Attempt, Placement);

/// What one placement gives to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Booking {
    /// Gets a request and its blocks.
    pub(super) decode: NodeRef,
    pub(super) blocks: u32,
    /// Gets the prompt.
    pub(super) prefill: NodeRef,
    pub(super) prompt_tokens: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    requests: u32,
    blocks: u32,
    prompt_tokens: u64,
}

/// All bookings, and what they add up to on each node.
#[derive(Debug, Default)]
pub(super) struct Bookings {
    rows: BTreeMap<BookingKey, (Micros, Booking)>,
    ends: BTreeSet<(Micros, BookingKey)>,
    sums: BTreeMap<NodeRef, Sum>,
    /// Nodes whose sums have changed since they were last taken.
    changed: BTreeSet<NodeRef>,
}

impl Bookings {
    pub(super) fn insert(&mut self, now: Micros, key: BookingKey, booking: Booking) {
        self.remove(key);
        if self.rows.len() >= BOOKINGS_MAX {
            return;
        }
        let end = now.after(LEASE_US);
        self.rows.insert(key, (end, booking));
        self.ends.insert((end, key));
        let owner = self.sums.entry(booking.decode).or_default();
        owner.requests += 1;
        owner.blocks = owner.blocks.saturating_add(booking.blocks);
        self.sums.entry(booking.prefill).or_default().prompt_tokens +=
            u64::from(booking.prompt_tokens);
        self.changed.extend([booking.decode, booking.prefill]);
    }

    /// Nodes on which something else is booked than when this was last called.
    pub(super) fn take_changed(&mut self) -> BTreeSet<NodeRef> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn remove(&mut self, key: BookingKey) {
        let Some((end, booking)) = self.rows.remove(&key) else {
            return;
        };
        self.ends.remove(&(end, key));
        self.subtract(
            booking.decode,
            Sum {
                requests: 1,
                blocks: booking.blocks,
                prompt_tokens: 0,
            },
        );
        let prompt_tokens = u64::from(booking.prompt_tokens);
        self.subtract(
            booking.prefill,
            Sum {
                prompt_tokens,
                ..Sum::default()
            },
        );
    }

    /// Another one gets the prompt; how long it is remembered stays as it was.
    pub(super) fn move_prompt(&mut self, key: BookingKey, prefill: NodeRef, prompt_tokens: u32) {
        let Some((_, booking)) = self.rows.get_mut(&key) else {
            return;
        };
        let old = *booking;
        (booking.prefill, booking.prompt_tokens) = (prefill, prompt_tokens);
        let part = Sum {
            prompt_tokens: u64::from(old.prompt_tokens),
            ..Sum::default()
        };
        self.subtract(old.prefill, part);
        self.sums.entry(prefill).or_default().prompt_tokens += u64::from(prompt_tokens);
        self.changed.insert(prefill);
    }

    fn subtract(&mut self, node: NodeRef, part: Sum) {
        let Some(sum) = self.sums.get_mut(&node) else {
            return;
        };
        self.changed.insert(node);
        sum.requests = sum.requests.saturating_sub(part.requests);
        sum.blocks = sum.blocks.saturating_sub(part.blocks);
        sum.prompt_tokens = sum.prompt_tokens.saturating_sub(part.prompt_tokens);
        if *sum == Sum::default() {
            self.sums.remove(&node);
        }
    }

    /// The worker took it over: its next beat shows it.
    pub(super) fn cover(&mut self, now: Micros, key: BookingKey) {
        let Some((end, _)) = self.rows.get_mut(&key) else {
            return;
        };
        let sooner = now.after(BEAT_US).min(*end);
        self.ends.remove(&(*end, key));
        self.ends.insert((sooner, key));
        *end = sooner;
    }

    pub(super) fn expire(&mut self, now: Micros) {
        while let Some((_, key)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.remove(key);
        }
    }

    /// A node is gone, and what was booked on it.
    pub(super) fn forget(&mut self, node: NodeRef) {
        let of_node = |b: &Booking| b.decode == node || b.prefill == node;
        let lost: Vec<BookingKey> = self
            .rows
            .iter()
            .filter(|(_, (_, b))| of_node(b))
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            self.remove(key);
        }
    }

    /// A node's load with what is booked on it.
    pub(super) fn load(&self, node: NodeRef, load: Load) -> NodeLoad {
        let sum = self.sums.get(&node).copied().unwrap_or_default();
        NodeLoad {
            load,
            booked_tokens: sum.prompt_tokens,
            booked: sum.requests,
            booked_blocks: sum.blocks,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};

    use super::*;

    const NOW: Micros = Micros(1_000_000);

    #[test]
    fn a_booking_ends_with_a_lease_or_one_beat_after_it_is_covered() {
        let mut bookings = Bookings::default();
        bookings.insert(NOW, key(1), booking());
        bookings.insert(NOW, key(2), booking());
        bookings.cover(NOW, key(1));
        bookings.expire(NOW.after(BEAT_US - 1));
        assert_eq!(bookings.len(), 2);
        bookings.expire(NOW.after(BEAT_US));
        assert_eq!(bookings.len(), 1);
        bookings.cover(NOW.after(LEASE_US - 1), key(2));
        bookings.expire(NOW.after(LEASE_US));
        assert_eq!(bookings.len(), 0);
        assert!(bookings.sums.is_empty() && bookings.ends.is_empty());
    }

    #[test]
    fn loads_show_what_is_booked_on_each_side() {
        let mut bookings = Bookings::default();
        bookings.insert(NOW, key(1), booking());
        bookings.insert(NOW, key(1), booking());
        let owner = bookings.load(node("d"), Load::default());
        assert_eq!(
            (owner.booked, owner.booked_blocks, owner.booked_tokens),
            (1, 7, 0)
        );
        let helper = bookings.load(node("p"), Load::default());
        assert_eq!((helper.booked, helper.booked_tokens), (0, 100));
        bookings.forget(node("p"));
        assert_eq!(bookings.load(node("d"), Load::default()).booked, 0);
    }

    #[test]
    fn a_prompt_moves_from_one_helper_to_another() {
        let mut bookings = Bookings::default();
        bookings.insert(NOW, key(1), booking());
        bookings.move_prompt(key(1), node("q"), 60);
        bookings.move_prompt(key(2), node("q"), 60);
        let tokens = |name| bookings.load(node(name), Load::default()).booked_tokens;
        assert_eq!((tokens("p"), tokens("q")), (0, 60));
        bookings.remove(key(1));
        assert!(bookings.sums.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let mut bookings = Bookings::default();
        for number in 0..=BOOKINGS_MAX {
            bookings.insert(NOW, key(number as u128), booking());
        }
        assert_eq!(bookings.len(), BOOKINGS_MAX);
    }

    fn key(request: u128) -> BookingKey {
        (RequestId(request), Attempt(1), Placement(1))
    }

    fn node(name: &str) -> NodeRef {
        NodeRef {
            node: NodeId::new(name).expect("a valid name"),
            epoch: Epoch(1),
        }
    }

    fn booking() -> Booking {
        Booking {
            decode: node("d"),
            blocks: 7,
            prefill: node("p"),
            prompt_tokens: 100,
        }
    }
}
