//! What admin and metrics see of a router: nodes, decisions with their reasons, counts.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{Attempt, NodeRef, Placement, RequestId, messages::Intake};

use super::{
    Counters, Router,
    pools::{Kind, kind},
};
use crate::{core::Micros, member::Member, place::Explanation};

/// One placement, with the possibilities it was chosen from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The request.
    pub request: RequestId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Which placement of the attempt.
    pub placement: Placement,
    /// Whose request it is.
    pub gateway: NodeRef,
    /// The chosen owner.
    pub decode: NodeRef,
    /// The chosen prefill node, if another.
    pub prefill: Option<NodeRef>,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// When, on the router's clock.
    pub at: Micros,
    /// The best possibilities, cheapest first.
    pub explained: Vec<Explanation>,
}

/// A live node as this router hears it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Name, epoch, last beat.
    pub member: Member,
    /// Whether its card and block size are those of its pool; one that differs is not used.
    pub card_agrees: bool,
}

/// A router's state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Who it is.
    pub me: NodeRef,
    /// Whether it places.
    pub intake: Intake,
    /// Live nodes in the order of their names.
    pub nodes: Vec<NodeView>,
    /// Attempts whose worker has not answered.
    pub placing: usize,
    /// Bookings not covered yet.
    pub bookings: usize,
    /// (block, node) pairs known.
    pub indexed: usize,
    /// Recent placements, oldest first.
    pub decisions: Vec<Decision>,
    /// Counters.
    pub counters: Counters,
}

impl Router {
    pub(super) fn view(&self) -> Snapshot {
        let models: BTreeSet<&str> = self.members.iter().map(|m| m.beat.model.as_str()).collect();
        let majorities: BTreeMap<&str, Kind> = models
            .into_iter()
            .filter_map(|model| Some((model, self.majority(model)?)))
            .collect();
        Snapshot {
            me: self.config.me,
            intake: self.intake,
            nodes: self
                .members
                .iter()
                .map(|m| NodeView {
                    member: m.clone(),
                    card_agrees: m.beat.model.is_empty()
                        || majorities.get(m.beat.model.as_str()) == Some(&kind(m)),
                })
                .collect(),
            placing: self.placings.len(),
            bookings: self.bookings.len(),
            indexed: self.index.len(),
            decisions: self.decisions.iter().cloned().collect(),
            counters: self.counters,
        }
    }
}
