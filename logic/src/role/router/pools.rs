//! The pool of a model: which of its workers may be used now, and why none can.
//!
//! Workers whose card or block size differ from most of their pool are never used; the rest serves on.

use std::{cmp::Reverse, collections::BTreeMap};

use bus_schemas::{RefuseReason, Role, messages::Intake};

use super::Router;
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

/// What all workers of a pool must agree on: the card and the tokens of a block.
pub(super) type Kind = (u64, u32);

pub(super) const fn kind(member: &Member) -> Kind {
    (member.beat.card, member.beat.load.block_tokens)
}

impl Router {
    /// A worker serves this model.
    pub(super) fn remember_model(&mut self, model: &str) {
        let is_new = !model.is_empty() && !self.models.contains(model);
        if is_new && self.models.len() < MODELS_MAX {
            self.models.insert(model.to_owned());
        }
    }

    fn pool(&self, model: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |m| m.beat.model == model)
    }

    /// The kind that most workers of a model have; of equally many the smaller, so that all routers agree.
    pub(super) fn majority(&self, model: &str) -> Option<Kind> {
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        for member in self.pool(model) {
            *counts.entry(kind(member)).or_default() += 1;
        }
        counts
            .into_iter()
            .max_by_key(|(kind, count)| (*count, Reverse(*kind)))
            .map(|(kind, _)| kind)
    }

    /// Live workers of a model that take requests, with what was booked on them.
    pub(super) fn candidates(&self, model: &str, majority: Kind) -> Vec<Candidate> {
        self.pool(model)
            .filter(|m| m.beat.intake == Intake::Open && kind(m) == majority)
            .map(|m| Candidate {
                me: m.me,
                decode: m.beat.roles.has(Role::Decode),
                prefill: m.beat.roles.has(Role::Prefill),
                load: self.bookings.load(m.me, m.beat.load),
                unreachable: m.beat.unreachable.clone(),
            })
            .collect()
    }

    /// Why no worker of a model takes a request that needs `blocks_least`, and after how many milliseconds to try again.
    ///
    /// A model whose workers are gone may come back, and so may one that this router had no time to hear of: that
    /// is no capacity, and passes. One of which it never heard does not exist. Cordoned workers are no capacity, too.
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
        let heard_enough = self.members.is_judging(now) && self.models.len() < MODELS_MAX;
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
