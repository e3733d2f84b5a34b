//! Peers of a fabric by incarnation, and the list of those that no lane reaches.
//!
//! Of one node at most the newest incarnation that was heard of is kept; an older one is never let in again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use bus_schemas::NodeRef;

/// Peers and what a fabric keeps of each.
pub(crate) struct Peers<L> {
    known: BTreeMap<NodeRef, L>,
    /// Incarnations whose blocks arrived corrupt, or whose lane altered its read-back.
    shunned: BTreeSet<NodeRef>,
    unreachable: Unreachable,
}

impl<L> Peers<L> {
    pub(crate) fn new(unreachable: &Unreachable) -> Self {
        Self {
            known: BTreeMap::new(),
            shunned: BTreeSet::new(),
            unreachable: unreachable.clone(),
        }
    }

    pub(crate) fn get(&self, peer: NodeRef) -> Option<&L> {
        self.known.get(&peer)
    }

    pub(crate) fn get_mut(&mut self, peer: NodeRef) -> Option<&mut L> {
        self.known.get_mut(&peer)
    }

    pub(crate) fn insert(&mut self, peer: NodeRef, lane: L) {
        self.known.insert(peer, lane);
    }

    pub(crate) fn remove(&mut self, peer: NodeRef) -> Option<L> {
        self.shunned.remove(&peer);
        self.unreachable.set(peer, false);
        self.known.remove(&peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeRef, &L)> {
        self.known.iter().map(|(peer, lane)| (*peer, lane))
    }

    /// This incarnation or its lane cannot be trusted: it counts as unreachable until it is forgotten,
    /// or its node has a newer one.
    pub(crate) fn shun(&mut self, peer: NodeRef, why: &'static str) {
        tracing::error!(?peer, why, "nothing more is read from this peer");
        self.known.remove(&peer);
        self.shunned.insert(peer);
        self.unreachable.set(peer, true);
    }

    /// Older incarnations that this one replaces; `None` if it is itself replaced, or shunned.
    pub(crate) fn replaced_by(&self, peer: NodeRef) -> Option<Vec<NodeRef>> {
        if self.shunned.contains(&peer) {
            return None;
        }
        let all = self.known.keys().chain(&self.shunned);
        let same = || all.clone().filter(|known| known.node == peer.node);
        if same().any(|known| known.epoch > peer.epoch) {
            return None;
        }
        Some(same().filter(|known| **known != peer).copied().collect())
    }

    /// Notes whether a lane reaches the peer.
    pub(crate) fn reached(&self, peer: NodeRef, reached: bool) {
        self.unreachable.set(peer, !reached);
    }
}

/// Peers that no lane reaches: written by a fabric's thread, read by anybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unreachable(Arc<Mutex<BTreeSet<NodeRef>>>);

impl Unreachable {
    pub(crate) fn list(&self) -> Vec<NodeRef> {
        self.lock().iter().copied().collect()
    }

    fn set(&self, peer: NodeRef, unreachable: bool) {
        if unreachable {
            self.lock().insert(peer);
        } else {
            self.lock().remove(&peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeRef>> {
        self.0.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};

    use super::*;

    fn node(name: &str, epoch: u64) -> NodeRef {
        let node = NodeId::new(name).expect("a fine name");
        let epoch = Epoch(epoch);
        NodeRef { node, epoch }
    }

    #[test]
    fn a_newer_incarnation_replaces_older_ones_and_is_not_replaced_by_them() {
        let mut peers = Peers::new(&Unreachable::default());
        peers.insert(node("a", 2), ());
        peers.insert(node("b", 1), ());
        assert_eq!(peers.replaced_by(node("a", 1)), None);
        assert_eq!(peers.replaced_by(node("a", 2)), Some(vec![]));
        assert_eq!(peers.replaced_by(node("a", 3)), Some(vec![node("a", 2)]));
    }

    #[test]
    fn a_shunned_incarnation_comes_back_only_as_a_newer_one() {
        let unreachable = Unreachable::default();
        let mut peers = Peers::new(&unreachable);
        peers.insert(node("a", 2), ());
        peers.shun(node("a", 2), "a test");
        assert_eq!(peers.get(node("a", 2)), None);
        assert_eq!(peers.replaced_by(node("a", 2)), None);
        assert_eq!(unreachable.list(), vec![node("a", 2)]);
        assert_eq!(peers.replaced_by(node("a", 3)), Some(vec![node("a", 2)]));
        peers.remove(node("a", 2));
        assert_eq!(unreachable.list(), vec![]);
    }
}
