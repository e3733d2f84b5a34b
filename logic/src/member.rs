//! Who lives: nodes by their beats, leases, and when a lease may be judged.
//!
//! Nobody is declared dead by a holder that was itself deaf or asleep: leases are judged only after the
//! own link was up, and the own time ran without a jump, for one whole lease. Nothing here sends a probe.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{Epoch, NodeId, NodeRef, limits::BEAT_US, messages::Beat};

use crate::core::Micros;

/// Nodes of one cluster: four times the thousand that placement is measured with.
const MEMBERS_MAX: usize = 4096;
/// Lost nodes whose last epoch is remembered, so that a late beat cannot bring back an older one.
const DEPARTED_MAX: usize = 4096;
/// Silence after which a beat counts as missed: one beat and its jitter.
const MISSED_US: u64 = BEAT_US * 2;

/// A node that lives, as far as we know.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which incarnation.
    pub me: NodeRef,
    /// The last beat.
    pub beat: Beat,
    /// When that beat arrived.
    pub heard: Micros,
    /// When it was last named as a suspect.
    suspected: Option<Micros>,
}

/// What a beat changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A node that was not known.
    New,
    /// A known one lives on.
    Renewed,
    /// A known one began a new epoch; this was the old one, and all of its leases have ended.
    Restarted(NodeRef),
    /// A beat of an older epoch, or one too many nodes: nothing changed.
    Stale,
}

/// The nodes that live.
#[derive(Clone, Debug)]
pub struct Members {
    lease_us: u64,
    members: BTreeMap<NodeId, Member>,
    by_heard: BTreeSet<(Micros, NodeId)>,
    departed: BTreeMap<NodeId, Epoch>,
    up: bool,
    /// Since when the link is up and time ran without a jump; none before anything was told.
    steady: Option<Micros>,
}

impl Members {
    /// Nobody yet. The link counts as up until told otherwise.
    #[must_use]
    pub const fn new(lease_us: u64) -> Self {
        Self {
            lease_us,
            members: BTreeMap::new(),
            by_heard: BTreeSet::new(),
            departed: BTreeMap::new(),
            up: true,
            steady: None,
        }
    }

    /// A beat of `from` arrived.
    pub fn observe(&mut self, now: Micros, from: NodeRef, beat: Beat) -> Observed {
        self.steady.get_or_insert(now);
        let observed = self.judge_beat(from);
        if observed == Observed::Stale {
            return observed;
        }
        let suspected = None;
        let member = Member {
            me: from,
            beat,
            heard: now,
            suspected,
        };
        if let Some(old) = self.members.insert(from.node, member) {
            self.by_heard.remove(&(old.heard, from.node));
        }
        self.by_heard.insert((now, from.node));
        self.departed.remove(&from.node);
        observed
    }

    fn judge_beat(&self, from: NodeRef) -> Observed {
        match self.members.get(&from.node) {
            Some(known) if known.me.epoch > from.epoch => Observed::Stale,
            Some(known) if known.me.epoch == from.epoch => Observed::Renewed,
            Some(known) => Observed::Restarted(known.me),
            None if self
                .departed
                .get(&from.node)
                .is_some_and(|e| *e > from.epoch) =>
            {
                Observed::Stale
            }
            None if self.members.len() >= MEMBERS_MAX => Observed::Stale,
            None => Observed::New,
        }
    }

    /// The living incarnation of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Whether exactly this incarnation lives.
    #[must_use]
    pub fn is_live(&self, node: NodeRef) -> bool {
        self.members.get(&node.node).is_some_and(|m| m.me == node)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A probe found nobody: forgets that incarnation; whether it was known. A later beat brings it back.
    pub fn gone(&mut self, node: NodeRef) -> bool {
        let known = self.is_live(node);
        if known {
            self.depart(node);
        }
        known
    }

    /// Forgets and returns those whose lease has ended, oldest silence first, if it may be judged.
    pub fn expire(&mut self, now: Micros) -> Vec<NodeRef> {
        self.steady.get_or_insert(now);
        if !self.is_judging(now) {
            return Vec::new();
        }
        let silent = |heard: Micros| heard.after(self.lease_us) <= now;
        let lost: Vec<NodeRef> = self
            .by_heard
            .iter()
            .take_while(|(heard, _)| silent(*heard))
            .filter_map(|(_, node)| Some(self.members.get(node)?.me))
            .collect();
        for node in &lost {
            self.depart(*node);
        }
        lost
    }

    /// Nodes that missed a beat and should be probed now; each is named at most once per beat.
    pub fn suspects(&mut self, now: Micros) -> Vec<NodeRef> {
        if !self.up {
            return Vec::new();
        }
        let mut suspects = Vec::new();
        for (heard, node) in &self.by_heard {
            if heard.after(MISSED_US) > now {
                break;
            }
            let Some(member) = self.members.get_mut(node) else {
                continue;
            };
            if member.suspected.is_none_or(|at| at.after(BEAT_US) <= now) {
                member.suspected = Some(now);
                suspects.push(member.me);
            }
        }
        suspects
    }

    /// The own link came up or went down.
    pub fn link(&mut self, now: Micros, up: bool) {
        if up != self.up || self.steady.is_none() {
            self.steady = Some(now);
        }
        self.up = up;
    }

    /// The own time jumped: nothing is judged for one whole lease.
    pub const fn woke(&mut self, now: Micros) {
        self.steady = Some(now);
    }

    /// Whether silence means anything at `now`.
    #[must_use]
    pub fn is_judging(&self, now: Micros) -> bool {
        self.up
            && self
                .steady
                .is_some_and(|since| since.after(self.lease_us) <= now)
    }

    /// When the next lease can end; none while there is nobody or the link is down.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let (heard, _) = self.by_heard.first().filter(|_| self.up)?;
        Some(
            self.steady
                .unwrap_or_default()
                .max(*heard)
                .after(self.lease_us),
        )
    }

    fn depart(&mut self, node: NodeRef) {
        if let Some(member) = self.members.remove(&node.node) {
            self.by_heard.remove(&(member.heard, node.node));
        }
        if self.departed.len() >= DEPARTED_MAX {
            self.departed.pop_first();
        }
        self.departed.insert(node.node, node.epoch);
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{
        Role, Roles,
        messages::{Intake, Load},
    };

    use super::*;

    const LEASE_US: u64 = 1_500_000;

    #[test]
    fn a_silent_node_is_lost_after_one_lease_and_a_beating_one_is_not() {
        let mut members = Members::new(LEASE_US);
        assert_eq!(members.observe(at(0), node("a", 1), beat()), Observed::New);
        assert_eq!(members.observe(at(0), node("b", 1), beat()), Observed::New);
        assert_eq!(
            members.observe(at(700), node("a", 1), beat()),
            Observed::Renewed
        );
        assert_eq!(members.deadline(), Some(at(1500)));
        assert_eq!(members.expire(at(1499)), []);
        assert_eq!(members.expire(at(1500)), [node("b", 1)]);
        assert!(members.is_live(node("a", 1)) && !members.is_live(node("b", 1)));
        assert_eq!(members.expire(at(2200)), [node("a", 1)]);
        assert_eq!(members.deadline(), None);
    }

    #[test]
    fn a_larger_epoch_ends_the_smaller_and_a_smaller_is_stale() {
        let mut members = Members::new(LEASE_US);
        members.observe(at(0), node("a", 5), beat());
        assert_eq!(
            members.observe(at(1), node("a", 4), beat()),
            Observed::Stale
        );
        let observed = members.observe(at(2), node("a", 6), beat());
        assert_eq!(observed, Observed::Restarted(node("a", 5)));
        assert_eq!(
            members.get(node("a", 6).node).map(|m| m.me),
            Some(node("a", 6))
        );
        assert!(!members.is_live(node("a", 5)));
    }

    #[test]
    fn a_late_beat_of_an_older_epoch_does_not_bring_a_lost_node_back() {
        let mut members = Members::new(LEASE_US);
        members.observe(at(0), node("a", 5), beat());
        assert!(members.gone(node("a", 5)));
        assert!(!members.gone(node("a", 5)));
        assert_eq!(
            members.observe(at(1), node("a", 4), beat()),
            Observed::Stale
        );
        assert_eq!(members.observe(at(2), node("a", 5), beat()), Observed::New);
    }

    #[test]
    fn nothing_is_judged_while_the_own_link_is_down_and_for_a_lease_after() {
        let mut members = Members::new(LEASE_US);
        members.observe(at(0), node("a", 1), beat());
        members.link(at(100), false);
        assert_eq!(members.deadline(), None);
        assert_eq!(members.expire(at(9000)), []);
        assert_eq!(members.suspects(at(9000)), []);
        members.link(at(9000), true);
        assert_eq!(members.expire(at(10_499)), []);
        assert_eq!(members.deadline(), Some(at(10_500)));
        assert_eq!(members.expire(at(10_500)), [node("a", 1)]);
    }

    #[test]
    fn nothing_is_judged_for_a_lease_after_a_jump() {
        let mut members = Members::new(LEASE_US);
        members.observe(at(0), node("a", 1), beat());
        members.woke(at(60_000));
        assert!(!members.is_judging(at(61_000)));
        assert_eq!(members.expire(at(61_499)), []);
        members.observe(at(61_499), node("a", 1), beat());
        assert_eq!(members.expire(at(61_500)), []);
    }

    #[test]
    fn told_twice_that_the_link_is_up_it_goes_on_judging() {
        let mut members = Members::new(LEASE_US);
        members.link(at(0), true);
        members.observe(at(0), node("a", 1), beat());
        members.link(at(1400), true);
        assert_eq!(members.expire(at(1500)), [node("a", 1)]);
    }

    #[test]
    fn a_suspect_is_named_once_per_beat_until_it_is_heard() {
        let mut members = Members::new(LEASE_US);
        members.observe(at(0), node("a", 1), beat());
        assert_eq!(members.suspects(at(499)), []);
        assert_eq!(members.suspects(at(500)), [node("a", 1)]);
        assert_eq!(members.suspects(at(749)), []);
        assert_eq!(members.suspects(at(750)), [node("a", 1)]);
        members.observe(at(760), node("a", 1), beat());
        assert_eq!(members.suspects(at(1000)), []);
    }

    #[test]
    fn names_are_walked_in_order_and_their_number_is_bounded() {
        let mut members = Members::new(LEASE_US);
        for index in (0..MEMBERS_MAX).rev() {
            members.observe(at(0), node(&format!("n{index:05}"), 1), beat());
        }
        assert_eq!(
            members.observe(at(0), node("one-too-many", 1), beat()),
            Observed::Stale
        );
        let names: Vec<NodeId> = members.iter().map(|m| m.me.node).collect();
        assert!(names.is_sorted() && names.len() == MEMBERS_MAX);
    }

    const fn at(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    fn node(name: &str, epoch: u64) -> NodeRef {
        NodeRef {
            node: NodeId::new(name).expect("a valid name"),
            epoch: Epoch(epoch),
        }
    }

    fn beat() -> Beat {
        Beat {
            roles: Roles::only(Role::Decode),
            model: "m".to_owned(),
            card: 1,
            intake: Intake::Open,
            notice: 0,
            load: Load::default(),
            fabric: Vec::new(),
            unreachable: Vec::new(),
            admin: String::new(),
        }
    }
}
