//! Who lives: nodes by their beats, leases, and when a lease may be judged.
//!
//! Nobody is declared dead by a holder that was itself deaf or asleep: leases are judged only while the own
//! beats come back over the bus, and after the own link was up and the own time ran without a jump for one
//! whole lease. Nothing here sends a probe.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Epoch, NodeId, NodeRef,
    limits::{BEAT_US, LEASE_US},
    messages::Beat,
};

use crate::core::Micros;

/// Nodes of one cluster: four times the thousand that placement is measured with.
const MEMBERS_MAX: usize = 4096;
/// Lost nodes whose last epoch is remembered, so that a late beat cannot bring back an older one.
const DEPARTED_MAX: usize = 4096;
/// Silence after which a beat counts as missed: one beat and its jitter.
const MISSED_US: u64 = BEAT_US * 2;
/// Silence of the own beats after which the bus is not trusted: a server that stands still says nothing else.
const DEAF_US: u64 = BEAT_US * 3;

const _: () = assert!(
    DEAF_US + BEAT_US < LEASE_US,
    "the bus is distrusted before anybody's lease can end"
);

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
    me: NodeRef,
    lease_us: u64,
    members: BTreeMap<NodeId, Member>,
    by_heard: BTreeSet<(Micros, NodeId)>,
    departed: BTreeMap<NodeId, Epoch>,
    up: bool,
    /// When the own beat last came back over the bus; none while it does not.
    own: Option<Micros>,
    /// Since when the link is up and time ran without a jump; none before anything was told.
    steady: Option<Micros>,
}

impl Members {
    /// What `me` knows: nobody yet. The link counts as up until told otherwise.
    #[must_use]
    pub const fn new(me: NodeRef, lease_us: u64) -> Self {
        Self {
            me,
            lease_us,
            members: BTreeMap::new(),
            by_heard: BTreeSet::new(),
            departed: BTreeMap::new(),
            up: true,
            own: None,
            steady: None,
        }
    }

    /// A beat of `from` arrived.
    pub fn observe(&mut self, now: Micros, from: NodeRef, beat: Beat) -> Observed {
        self.steady.get_or_insert(now);
        if from == self.me {
            self.hear_self(now);
        }
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

    /// The bus works. If it did not, everybody gets one whole lease to be heard again.
    fn hear_self(&mut self, now: Micros) {
        if !self.hears_itself(now) {
            self.steady = Some(now);
        }
        self.own = Some(now);
    }

    fn hears_itself(&self, now: Micros) -> bool {
        self.own.is_some_and(|at| now <= at.after(DEAF_US))
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
        if !self.hears_itself(now) {
            self.own = None;
        }
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
        if !self.up || !self.hears_itself(now) {
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
            && self.hears_itself(now)
            && self
                .steady
                .is_some_and(|since| since.after(self.lease_us) <= now)
    }

    /// When the next lease can end; none while there is nobody, the link is down, or an own beat must come first.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let (heard, _) = self.by_heard.first().filter(|_| self.up)?;
        let steady = self.steady.unwrap_or_default();
        let end = steady.max(*heard).after(self.lease_us);
        self.own.filter(|at| end <= at.after(DEAF_US)).map(|_| end)
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
mod tests;
