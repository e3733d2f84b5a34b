//! Where recent attempts went: for the hint to their gateways when an owner is gone, and for repeated admissions.
//!
//! A bounded memory, the oldest forgotten first. It never knows whether an attempt still runs.

use std::collections::{BTreeMap, VecDeque};

use bus_schemas::{Attempt, NodeRef, Placement, RequestId};

/// Promised attempts remembered: some 300 bytes each, the requests that run at once in a large cluster.
const RECENT_MAX: usize = 1 << 16;

type Key = (RequestId, Attempt);

/// Where an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) gateway: NodeRef,
    pub(super) decode: NodeRef,
    pub(super) prefill: Option<NodeRef>,
    pub(super) placement: Placement,
}

impl Placed {
    pub(super) const fn nowhere(gateway: NodeRef) -> Self {
        Self {
            gateway,
            decode: NodeRef::NONE,
            prefill: None,
            placement: Placement(0),
        }
    }
}

/// Attempts that were promised.
#[derive(Debug, Default)]
pub(super) struct Recent {
    rows: BTreeMap<Key, Placed>,
    /// Oldest first; may name rows that are gone.
    order: VecDeque<Key>,
}

impl Recent {
    pub(super) fn insert(&mut self, key: Key, placed: Placed) {
        if self.order.len() >= RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
        self.rows.insert(key, placed);
        self.order.push_back(key);
    }

    pub(super) fn get(&self, key: Key) -> Option<Placed> {
        self.rows.get(&key).copied()
    }

    pub(super) fn knows_newer(&self, (request, attempt): Key) -> bool {
        self.rows
            .range((request, attempt)..=(request, Attempt(u32::MAX)))
            .next()
            .is_some()
    }

    /// Forgets and returns what went to an owner that is gone.
    pub(super) fn take_of(&mut self, owner: NodeRef) -> Vec<(Key, Placed)> {
        let lost: Vec<(Key, Placed)> = self
            .rows
            .iter()
            .filter(|(_, p)| p.decode == owner)
            .map(|(k, p)| (*k, *p))
            .collect();
        for (key, _) in &lost {
            self.rows.remove(key);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};

    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::default();
        for request in 0..=RECENT_MAX as u128 {
            recent.insert((RequestId(request), Attempt(1)), placed("d"));
        }
        assert_eq!(recent.get((RequestId(0), Attempt(1))), None);
        assert!(recent.get((RequestId(1), Attempt(1))).is_some());
        assert_eq!(
            (recent.rows.len(), recent.order.len()),
            (RECENT_MAX, RECENT_MAX)
        );
    }

    #[test]
    fn what_an_owner_had_is_told_once() {
        let mut recent = Recent::default();
        recent.insert((RequestId(1), Attempt(1)), placed("a"));
        recent.insert((RequestId(2), Attempt(1)), placed("b"));
        assert_eq!(recent.take_of(placed("a").decode).len(), 1);
        assert_eq!(recent.take_of(placed("a").decode), []);
        assert!(recent.get((RequestId(2), Attempt(1))).is_some());
    }

    fn placed(owner: &str) -> Placed {
        let node = NodeId::new(owner).expect("a valid name");
        Placed {
            decode: NodeRef {
                node,
                epoch: Epoch(1),
            },
            ..Placed::nowhere(NodeRef::NONE)
        }
    }
}
