//! The nodes of one process that can take from each other, and what is wrong between them.
//!
//! It never copies: readers look members up and copy by themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use bus_schemas::NodeRef;
use gpu::Region;

use crate::{FabricConfig, counters::Counters, exports::Exports};

/// A set of nodes in one process. Clones name the same set.
#[derive(Clone, Debug, Default)]
pub struct MemNetwork(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<NodeRef, Weak<Member>>,
    faults: BTreeMap<NodeRef, Faults>,
}

/// What is wrong with an owner, as its readers see it. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Its answers are lost: takes that start now never move.
    pub dropped: bool,
    /// It stands still: takes under way stop where they are, and go on after it thaws.
    pub frozen: bool,
    /// It is dead: takes fail with `PeerLost`.
    pub failed: bool,
    /// Passes before the first byte of a take.
    pub delay: Duration,
    /// Passes between `Taken` and `Settled` of a take that failed after its start.
    pub settle_delay: Duration,
}

/// One node's side that others read.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) region: Arc<Region>,
    pub(super) counters: Arc<Counters>,
    pub(super) exports: Arc<Exports>,
}

impl Member {
    pub(super) fn new(config: &FabricConfig, counters: &Arc<Counters>) -> Self {
        Self {
            region: Arc::clone(&config.region),
            counters: Arc::clone(counters),
            exports: Exports::new(&config.region, config.checks),
        }
    }
}

impl MemNetwork {
    /// Makes something wrong with an owner, or right again.
    pub fn set_faults(&self, owner: NodeRef, faults: Faults) {
        self.state().faults.insert(owner, faults);
    }

    pub(super) fn faults(&self, owner: NodeRef) -> Faults {
        self.state().faults.get(&owner).copied().unwrap_or_default()
    }

    pub(super) fn join(&self, node: NodeRef, member: &Arc<Member>) -> bool {
        let mut state = self.state();
        let taken = state.members.get(&node).and_then(Weak::upgrade).is_some();
        if !taken {
            state.members.insert(node, Arc::downgrade(member));
        }
        !taken
    }

    pub(super) fn leave(&self, node: NodeRef) {
        self.state().members.remove(&node);
    }

    pub(super) fn member(&self, node: NodeRef) -> Option<Arc<Member>> {
        self.state().members.get(&node).and_then(Weak::upgrade)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}
