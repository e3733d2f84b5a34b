//! The bus between nodes: it loses, repeats, delays and stands still, and says when nobody listens.
//!
//! It never reads a letter.

use bus_schemas::{NodeId, NodeRef};
use logic::role::{Dest, Outgoing};

use super::{Brain, Node, World, event::Event};

impl World {
    pub(super) fn probe(&mut self, me: NodeRef, node: NodeRef) {
        // A frozen process keeps its subscription: the server finds somebody, who does not answer in time.
        let lives = self
            .nodes
            .get(&node.node)
            .is_some_and(|n| n.brain.is_some() && n.me == node);
        // Of a bus that stands still no answer comes in time, which says nothing.
        if !lives && self.held_until <= self.now {
            self.push(self.now.after(300), Event::Gone { to: me, node });
        }
    }

    pub(super) fn post(&mut self, from: NodeRef, outgoing: Outgoing) {
        let Outgoing {
            dest,
            meta,
            message,
        } = outgoing;
        assert_eq!(meta.from, from, "law 5: every letter names its sender");
        let targets: Vec<NodeId> = match dest {
            Dest::Node(node) => vec![node],
            Dest::Beats => self.nodes.keys().copied().collect(),
            Dest::Notices => self.named(|b| matches!(b, Brain::Router(_))),
            Dest::AnyRouter => {
                let routers = self.named(|b| matches!(b, Brain::Router(_)));
                if routers.is_empty() {
                    return;
                }
                let pick = self.rng.below(routers.len() as u64);
                routers
                    .into_iter()
                    .skip(usize::try_from(pick).unwrap_or(0))
                    .take(1)
                    .collect()
            }
        };
        for to in targets {
            if self.rng.percent(self.faults.lose_percent) {
                continue;
            }
            let copies = 1 + u64::from(self.rng.percent(self.faults.repeat_percent));
            for _ in 0..copies {
                let wait = 50 + self.rng.below(self.faults.delay_us_max.max(1));
                let letter = Event::Letter {
                    to,
                    meta,
                    message: message.clone(),
                };
                self.push(self.now.max(self.held_until).after(wait), letter);
            }
        }
    }

    fn named(&self, wanted: impl Fn(&Brain) -> bool) -> Vec<NodeId> {
        let is = |n: &Node| n.brain.as_ref().is_some_and(&wanted);
        self.nodes
            .iter()
            .filter(|(_, n)| is(n))
            .map(|(id, _)| *id)
            .collect()
    }
}
