//! The pool of a model: which of its workers may be used now, and why none can.
//!
//! Workers whose card or block size differ from most of their pool are never used; the rest serves on. Pools are kept
//! as beats and bookings come, so that a choice never goes through all members.

use std::{cmp::Reverse, collections::BTreeMap};

use bus_schemas::{NodeId, NodeRef, RefuseReason, Role, messages::Intake};

use super::{Router, bookings::Bookings};
use crate::{
    core::Micros,
    member::Member,
    place::{Candidate, NodeLoad},
};

/// Pause before an attempt is worth repeating where no queue's length tells.
pub(super) const RETRY_MS: u32 = 500;
/// Bounds of the hint that a queue's length gives.
const RETRY_MS_RANGE: (u32, u32) = (50, 30_000);

/// Models whose names are remembered: far more than a cluster serves. Beyond it none is called unknown.
const MODELS_MAX: usize = 1024;
/// Longest name that is remembered, in bytes: more than any folder's.
const MODEL_NAME_MAX: usize = 256;

/// What all workers of a pool must agree on: the card and the tokens of a block.
pub(super) type Kind = (u64, u32);

pub(super) const fn kind(member: &Member) -> Kind {
    (member.beat.card, member.beat.load.block_tokens)
}

/// All members by model and kind.
#[derive(Debug, Default)]
pub(super) struct Pools {
    models: BTreeMap<String, BTreeMap<Kind, Pool>>,
    /// Where each member is.
    places: BTreeMap<NodeId, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    me: NodeRef,
    model: String,
    kind: Kind,
}

/// Members that agree.
#[derive(Debug, Default)]
struct Pool {
    members: usize,
    /// Those that take requests, in the order of their names.
    open: Vec<Candidate>,
}

impl Pools {
    /// A member said something of itself.
    pub(super) fn put(&mut self, member: &Member, load: NodeLoad) {
        let node = member.me.node;
        let (me, kind) = (member.me, kind(member));
        let stays = |p: &Place| p.me == me && p.model == member.beat.model && p.kind == kind;
        if !self.places.get(&node).is_some_and(stays) {
            self.take_out(node);
            let model = member.beat.model.clone();
            let pool = self.models.entry(model.clone()).or_default();
            pool.entry(kind).or_default().members += 1;
            self.places.insert(node, Place { me, model, kind });
        }
        let Some(pool) = self.pool(node) else { return };
        let candidate = Candidate {
            me: member.me,
            decode: member.beat.roles.has(Role::Decode),
            prefill: member.beat.roles.has(Role::Prefill),
            load,
            unreachable: member.beat.unreachable.clone(),
        };
        let open = member.beat.intake == Intake::Open;
        match (pool.find(node), open) {
            (Ok(at), true) => pool.open[at] = candidate,
            (Err(at), true) => pool.open.insert(at, candidate),
            (Ok(at), false) => drop(pool.open.remove(at)),
            (Err(_), false) => {}
        }
    }

    /// An incarnation is gone.
    pub(super) fn remove(&mut self, node: NodeRef) {
        if self.places.get(&node.node).is_some_and(|p| p.me == node) {
            self.take_out(node.node);
        }
    }

    fn take_out(&mut self, node: NodeId) {
        if let Some(pool) = self.pool(node) {
            pool.members -= 1;
            if let Ok(at) = pool.find(node) {
                pool.open.remove(at);
            }
        }
        let Some(Place { model, kind, .. }) = self.places.remove(&node) else {
            return;
        };
        let Some(kinds) = self.models.get_mut(&model) else {
            return;
        };
        if kinds.get(&kind).is_some_and(|pool| pool.members == 0) {
            kinds.remove(&kind);
        }
        if kinds.is_empty() {
            self.models.remove(&model);
        }
    }

    /// What is booked on a member has changed.
    pub(super) fn book(&mut self, node: NodeRef, bookings: &Bookings) {
        let Some(pool) = self.pool(node.node) else {
            return;
        };
        if let Ok(at) = pool.find(node.node)
            && pool.open[at].me == node
        {
            let load = &mut pool.open[at].load;
            *load = bookings.load(node, load.load);
        }
    }

    /// The kind that most workers of a model have; of equally many the smaller, so that all routers agree.
    fn majority(&self, model: &str) -> Option<Kind> {
        let kinds = self.models.get(model)?.iter();
        kinds
            .max_by_key(|(kind, pool)| (pool.members, Reverse(**kind)))
            .map(|(kind, _)| *kind)
    }

    fn open(&self, model: &str, of: Kind) -> &[Candidate] {
        let pool = self.models.get(model).and_then(|kinds| kinds.get(&of));
        pool.map_or(&[], |pool| &pool.open)
    }

    fn pool(&mut self, node: NodeId) -> Option<&mut Pool> {
        let Place { model, kind, .. } = self.places.get(&node)?;
        self.models.get_mut(model)?.get_mut(kind)
    }
}

impl Pool {
    fn find(&self, node: NodeId) -> Result<usize, usize> {
        self.open
            .binary_search_by_key(&node, |candidate| candidate.me.node)
    }
}

impl Router {
    /// A worker serves this model.
    pub(super) fn remember_model(&mut self, model: &str) {
        let is_new = !self.models.contains(model);
        let sane = (1..=MODEL_NAME_MAX).contains(&model.len());
        if is_new && sane && self.models.len() < MODELS_MAX {
            self.models.insert(model.to_owned());
        }
    }

    fn pool(&self, model: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |m| m.beat.model == model)
    }

    pub(super) fn majority(&self, model: &str) -> Option<Kind> {
        self.pools.majority(model)
    }

    /// Live workers of a model that take requests, in the order of their names, with what is booked on them.
    pub(super) fn candidates(&self, model: &str, majority: Kind) -> &[Candidate] {
        self.pools.open(model, majority)
    }

    /// Why no worker of a model takes a request that needs `blocks_least`, and after how many milliseconds to try again.
    ///
    /// A model whose workers are gone may come back, and so may one that this router had no time to hear of: that
    /// is no capacity, and passes: a cluster without any worker is starting. A model of which it never heard does not exist. Cordoned workers are no capacity, too.
    pub(super) fn why_not(
        &self,
        now: Micros,
        model: &str,
        blocks_least: u32,
    ) -> (RefuseReason, u32) {
        let majority = self.majority(model);
        let owners: Vec<&Member> = self
            .pool(model)
            .filter(|m| m.beat.roles.has(Role::Decode) && Some(kind(m)) == majority)
            .collect();
        let open: Vec<NodeLoad> = owners
            .iter()
            .filter(|m| m.beat.intake == Intake::Open)
            .map(|m| self.bookings.load(m.me, m.beat.load))
            .collect();
        let heard_enough =
            self.members.is_judging(now) && (1..MODELS_MAX).contains(&self.models.len());
        let leaving = |m: &&Member| m.beat.intake == Intake::Draining;
        if owners.is_empty() && heard_enough && !self.models.contains(model) {
            (RefuseReason::UnknownModel, 0)
        } else if owners.is_empty() {
            (RefuseReason::NoCapacity, RETRY_MS)
        } else if open.is_empty() && owners.iter().all(leaving) {
            (RefuseReason::Draining, RETRY_MS)
        } else if open.is_empty() {
            (RefuseReason::NoCapacity, RETRY_MS)
        } else if open
            .iter()
            .all(|node| node.load.blocks_total < blocks_least)
        {
            (RefuseReason::TooLarge, 0)
        } else {
            (RefuseReason::Full, retry_hint(&open))
        }
    }
}

/// Milliseconds until the least busy node has worked off its prefill queue.
fn retry_hint(nodes: &[NodeLoad]) -> u32 {
    let least = nodes
        .iter()
        .map(NodeLoad::queued_ms)
        .fold(f64::INFINITY, f64::min);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let ms = least as u32;
    ms.clamp(RETRY_MS_RANGE.0, RETRY_MS_RANGE.1)
}
