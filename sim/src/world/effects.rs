//! What cores want done: letters to the bus, steps to the engine, takes to the fabric, tokens to clients.
//!
//! Delivery is where the laws about a request's tokens and its one outcome are checked.

use bus_schemas::{Item, NodeRef, RequestId, Ticket, messages::SlotRef};
use logic::{
    batch::StepPlan,
    fact::Fact,
    role::{gateway, router, worker},
};

use super::{
    World,
    event::Event,
    input::{Effects, Input},
};
use crate::engine;

impl World {
    pub(super) fn perform(&mut self, me: NodeRef, effects: Effects) {
        match effects {
            Effects::Gateway(effects) => {
                effects.into_iter().for_each(|e| self.gateway_effect(me, e))
            }
            Effects::Router(effects) => effects.into_iter().for_each(|e| self.router_effect(me, e)),
            Effects::Worker(effects) => effects.into_iter().for_each(|e| self.worker_effect(me, e)),
        }
        self.arm(me);
    }

    fn gateway_effect(&mut self, me: NodeRef, effect: gateway::Effect) {
        match effect {
            gateway::Effect::Send(outgoing) => self.post(me, outgoing),
            gateway::Effect::Deliver { request, items, .. } => self.deliver(request, items),
            gateway::Effect::Ended {
                request, outcome, ..
            } => {
                let client = self.clients.entry(request).or_default();
                assert_eq!(client.outcome, None, "law 1: {request} has one outcome");
                client.outcome = Some(outcome);
            }
            gateway::Effect::Probe(node) => self.probe(me, node),
            gateway::Effect::Fact(fact) => self.fact(&fact),
            gateway::Effect::Models(_)
            | gateway::Effect::LetGo { .. }
            | gateway::Effect::Drained => {}
        }
    }

    fn deliver(&mut self, request: RequestId, items: Vec<Item>) {
        let client = self.clients.entry(request).or_default();
        assert_eq!(
            client.outcome, None,
            "law 1: nothing follows the outcome of {request}"
        );
        for item in items {
            if let Item::Token(record) = item {
                let output = client.output.entry(record.choice).or_default();
                assert_eq!(
                    record.index as usize,
                    output.len(),
                    "{request}: no token lost or doubled"
                );
                output.push(record.id);
            }
        }
    }

    /// Every fact belongs to its request's trace, and its span was caused by one that is known.
    fn fact(&mut self, fact: &Fact) {
        let span = fact.span;
        assert_eq!(span.trace.id, span.request.0, "a request is its own trace");
        let known = span.parent == 0 || self.spans.contains(&(span.trace.id, span.parent));
        assert!(known, "{fact:?} was caused by a span that nobody began");
        self.spans.insert((span.trace.id, span.trace.span));
    }

    fn router_effect(&mut self, me: NodeRef, effect: router::Effect) {
        match effect {
            router::Effect::Send(outgoing) => self.post(me, outgoing),
            router::Effect::Probe(node) => self.probe(me, node),
            router::Effect::Fact(fact) => self.fact(&fact),
            router::Effect::Note(_) => {}
        }
    }

    fn worker_effect(&mut self, me: NodeRef, effect: worker::Effect) {
        match effect {
            worker::Effect::Send(outgoing) => self.post(me, outgoing),
            worker::Effect::Step(plan) => {
                let tokens: usize = plan.rows.iter().map(|r| r.tokens.len()).sum();
                let took = 200 + 20 * tokens as u64;
                self.push(self.now.after(took), Event::Step(me, plan));
            }
            worker::Effect::Take {
                take,
                ticket,
                owner,
                pieces,
                ..
            } => {
                let wait = 100 + self.rng.below(self.faults.take_us_max.max(1));
                let at = self.now.after(wait);
                self.push(
                    at,
                    Event::Land {
                        to: me,
                        take,
                        ticket,
                        owner,
                        pieces,
                    },
                );
            }
            worker::Effect::CancelTake(take) => {
                self.cancelled_takes.insert((me, take));
            }
            worker::Effect::Export { ticket, .. } => {
                if let Some(node) = self.nodes.get_mut(&me.node) {
                    node.exports.insert(ticket);
                }
            }
            worker::Effect::Revoke(ticket) => {
                if let Some(node) = self.nodes.get_mut(&me.node) {
                    node.exports.remove(&ticket);
                }
            }
            worker::Effect::Probe(node) => self.probe(me, node),
            worker::Effect::Fact(fact) => self.fact(&fact),
            worker::Effect::KnowPeer { .. }
            | worker::Effect::ForgetPeer(_)
            | worker::Effect::Drained => {}
        }
    }

    pub(super) fn step(&mut self, me: NodeRef, plan: &StepPlan) {
        let tokens = self.block_tokens;
        let Some(node) = self.nodes.get_mut(&me.node).filter(|n| n.me == me) else {
            return;
        };
        let result = engine::run(plan, &mut node.memory, tokens);
        self.input_ref(me, Input::Stepped(result));
    }

    /// The bytes of a take arrive, also when it was cancelled meanwhile: an operation cannot be recalled.
    pub(super) fn land(
        &mut self,
        to: NodeRef,
        take: u64,
        ticket: Ticket,
        owner: NodeRef,
        pieces: &[(SlotRef, SlotRef)],
    ) {
        let from = self
            .nodes
            .get(&owner.node)
            .filter(|n| n.me == owner && n.brain.is_some());
        let allowed = from.is_some_and(|n| n.exports.contains(&ticket));
        let late = self.rng.percent(self.faults.torn_percent);
        if let (true, Some(from)) = (allowed, from) {
            let bytes: Vec<(u32, Vec<u64>)> = pieces
                .iter()
                .map(|(a, b)| (b.slot, from.memory.read(a.slot)))
                .collect();
            if let Some(node) = self.nodes.get_mut(&to.node).filter(|n| n.me == to) {
                for (slot, states) in bytes {
                    node.memory.write(slot, states);
                }
            }
        }
        let cancelled = self.cancelled_takes.remove(&(to, take));
        if !cancelled {
            self.input_ref(
                to,
                Input::Taken {
                    take,
                    landed: allowed && !late,
                },
            );
        }
        let wait = self.rng.below(2000);
        self.push(self.now.after(wait), Event::Settle(to, take));
    }
}
