//! Who lives: beats heard, leases judged, restarts noticed.
//!
//! A lease is judged only by somebody whose own link has been up, and who has run without a jump, for one whole
//! lease; else silence proves nothing. It never uses wall time and never forgets that an old epoch is over.

use std::collections::BTreeMap;

use bus_schemas::{Epoch, NodeId, NodeRef, limits::BEAT_US, messages::Beat};

use crate::core::Micros;

/// Nodes remembered at most: clusters are a thousand nodes, names of the dead come on top.
const MEMBERS_MAX: usize = 1 << 14;
/// Beats missed before a node's subject is asked whether anybody is there.
const SUSPECT_US: u64 = 2 * BEAT_US;

/// A live node.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name and epoch.
    pub me: NodeRef,
    /// What it said last.
    pub beat: Beat,
    /// When.
    pub heard: Micros,
    /// When it may be probed again.
    probe_at: Micros,
}

/// What a beat told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A node not known before, or known as lost.
    New,
    /// One known and alive.
    Renewed,
    /// A new incarnation of a live node; this one is over.
    Restarted(NodeRef),
    /// An incarnation that is over.
    Stale,
}

/// The nodes that one holder hears.
#[derive(Debug)]
pub struct Members {
    lease_us: u64,
    live: BTreeMap<NodeId, Member>,
    /// Newest epoch that is over, of nodes that are not live.
    over: BTreeMap<NodeId, Epoch>,
    link_up: bool,
    /// Since when the link is up and we run without a jump.
    steady_since: Option<Micros>,
}

impl Members {
    /// Nobody is known; the link is taken to be up from the first moment on.
    #[must_use]
    pub const fn new(lease_us: u64) -> Self {
        Self {
            lease_us,
            live: BTreeMap::new(),
            over: BTreeMap::new(),
            link_up: true,
            steady_since: None,
        }
    }

    /// A beat was heard.
    pub fn observe(&mut self, now: Micros, from: NodeRef, beat: Beat) -> Observed {
        self.steady_since.get_or_insert(now);
        let fresh = Member {
            me: from,
            beat,
            heard: now,
            probe_at: now.after(SUSPECT_US),
        };
        match self.live.get_mut(&from.node) {
            Some(member) if member.me.epoch == from.epoch => {
                *member = fresh;
                Observed::Renewed
            }
            Some(member) if member.me.epoch > from.epoch => Observed::Stale,
            Some(member) => {
                let old = member.me;
                *member = fresh;
                Observed::Restarted(old)
            }
            // The same epoch may come back: it was partitioned, not dead. What it owned is lost all the same.
            None if self.over.get(&from.node).is_some_and(|e| *e > from.epoch) => Observed::Stale,
            None => {
                if self.live.len() >= MEMBERS_MAX {
                    return Observed::Stale;
                }
                self.over.remove(&from.node);
                self.live.insert(from.node, fresh);
                Observed::New
            }
        }
    }

    /// A live node of that name.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.live.get(&node)
    }

    /// Whether that incarnation lives, as far as is known.
    #[must_use]
    pub fn is_live(&self, node: NodeRef) -> bool {
        self.live.get(&node.node).is_some_and(|m| m.me == node)
    }

    /// Live nodes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.live.values()
    }

    /// Somebody made sure that this incarnation is gone; false if it was not known as live.
    pub fn gone(&mut self, node: NodeRef) -> bool {
        let known = self.is_live(node);
        if known {
            self.bury(node);
        }
        known
    }

    fn bury(&mut self, node: NodeRef) {
        self.live.remove(&node.node);
        if self.over.len() >= MEMBERS_MAX {
            self.over.pop_first();
        }
        self.over.insert(node.node, node.epoch);
    }

    /// The link to the bus came up or went down.
    pub fn link(&mut self, now: Micros, up: bool) {
        if up != self.link_up || !up {
            self.steady_since = up.then_some(now);
        }
        self.link_up = up;
    }

    /// We were frozen: what we did not hear meanwhile proves nothing.
    pub fn woke(&mut self, now: Micros) {
        if self.link_up {
            self.steady_since = Some(now);
        }
    }

    /// Whether silence is evidence now.
    #[must_use]
    pub fn is_judging(&self, now: Micros) -> bool {
        self.steady_since
            .is_some_and(|since| now.since(since) >= self.lease_us)
    }

    /// Nodes whose lease has ended.
    pub fn expire(&mut self, now: Micros) -> Vec<NodeRef> {
        if !self.is_judging(now) {
            return Vec::new();
        }
        let lost: Vec<NodeRef> = self
            .live
            .values()
            .filter(|m| now.since(m.heard) >= self.lease_us)
            .map(|m| m.me)
            .collect();
        for node in &lost {
            self.bury(*node);
        }
        lost
    }

    /// Nodes that missed beats and should be probed; each at most once per beat.
    pub fn suspects(&mut self, now: Micros) -> Vec<NodeRef> {
        if self
            .steady_since
            .is_none_or(|since| now.since(since) < SUSPECT_US)
        {
            return Vec::new();
        }
        let mut suspects = Vec::new();
        for member in self.live.values_mut().filter(|m| m.probe_at <= now) {
            member.probe_at = now.after(BEAT_US);
            suspects.push(member.me);
        }
        suspects
    }

    /// When the next lease may end.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let judge_at = self.steady_since?.after(self.lease_us);
        let first = self.live.values().map(|m| m.heard).min()?;
        Some(first.after(self.lease_us).max(judge_at))
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::messages::{Intake, Load};

    use super::*;

    const LEASE: u64 = 1_500_000;

    fn node(epoch: u64) -> NodeRef {
        NodeRef {
            node: NodeId::new("d").expect("a valid name"),
            epoch: Epoch(epoch),
        }
    }

    fn beat() -> Beat {
        Beat {
            roles: bus_schemas::Roles::WORKER,
            model: String::new(),
            card: 0,
            intake: Intake::Open,
            notice: 0,
            load: Load::default(),
            fabric: Vec::new(),
            unreachable: Vec::new(),
            admin: String::new(),
        }
    }

    #[test]
    fn a_silent_node_is_lost_after_a_lease() {
        let mut members = Members::new(LEASE);
        assert_eq!(members.observe(Micros(0), node(1), beat()), Observed::New);
        assert_eq!(
            members.observe(Micros(250_000), node(1), beat()),
            Observed::Renewed
        );
        assert!(members.expire(Micros(1_700_000)).is_empty());
        assert_eq!(members.deadline(), Some(Micros(1_750_000)));
        assert_eq!(members.expire(Micros(1_750_000)), vec![node(1)]);
        assert!(!members.is_live(node(1)));
    }

    #[test]
    fn nothing_is_judged_while_the_link_is_down_or_after_a_freeze() {
        let mut members = Members::new(LEASE);
        members.observe(Micros(0), node(1), beat());
        members.link(Micros(100), false);
        assert!(members.expire(Micros(10 * LEASE)).is_empty());
        members.link(Micros(10 * LEASE), true);
        assert!(members.expire(Micros(11 * LEASE - 1)).is_empty());
        members.woke(Micros(11 * LEASE - 1));
        assert!(members.expire(Micros(11 * LEASE)).is_empty());
        assert_eq!(members.expire(Micros(12 * LEASE)), vec![node(1)]);
    }

    #[test]
    fn a_larger_epoch_ends_the_smaller_and_a_smaller_is_stale() {
        let mut members = Members::new(LEASE);
        members.observe(Micros(0), node(5), beat());
        assert_eq!(
            members.observe(Micros(1), node(7), beat()),
            Observed::Restarted(node(5))
        );
        assert_eq!(members.observe(Micros(2), node(5), beat()), Observed::Stale);
        assert!(members.gone(node(7)));
        assert!(!members.gone(node(7)));
        assert_eq!(members.observe(Micros(3), node(6), beat()), Observed::Stale);
        assert_eq!(members.observe(Micros(4), node(7), beat()), Observed::New);
    }

    #[test]
    fn a_suspect_is_named_once_per_beat() {
        let mut members = Members::new(LEASE);
        members.observe(Micros(0), node(1), beat());
        assert!(members.suspects(Micros(SUSPECT_US - 1)).is_empty());
        assert_eq!(members.suspects(Micros(SUSPECT_US)), vec![node(1)]);
        assert!(members.suspects(Micros(SUSPECT_US + 1)).is_empty());
        assert_eq!(
            members.suspects(Micros(SUSPECT_US + BEAT_US)),
            vec![node(1)]
        );
    }
}
