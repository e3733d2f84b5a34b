//! The router's picture of the workers: who lives, what each holds, and what happens when one is gone.
//!
//! A picture may be old and is never trusted with memory. What a lost letter takes from it, a snapshot heals.

use bus_schemas::{
    Meta, NodeRef, Role,
    messages::{Beat, Change, Notice, Orphaned, SnapshotAsk, SnapshotPart},
};

use super::{
    Dest, Effect, Note, Outgoing, Router,
    ledger::Ledger,
    placing::{Placing, PlacingKey},
    pools::kind,
};
use crate::{core::Micros, member::Observed};

/// Snapshots waited for at once: each may be megabytes, and a router that starts lacks them all.
const ASKING_MAX: usize = 16;

impl Router {
    /// Shows the pools what has been booked since this was last called.
    pub(super) fn count_bookings(&mut self) {
        for node in self.bookings.take_changed() {
            self.pools.book(node, &self.bookings);
        }
    }

    pub(super) fn heard(&mut self, now: Micros, from: NodeRef, beat: Beat, out: &mut Vec<Effect>) {
        let number = beat.notice;
        let is_worker = beat.roles.has(Role::Decode) || beat.roles.has(Role::Prefill);
        let observed = self.members.observe(now, from, beat);
        if let Some(member) = self.members.get(from.node).filter(|m| m.me == from) {
            let served = member.beat.model.clone();
            let load = self.bookings.load(from, member.beat.load);
            self.pools.put(member, load);
            if is_worker {
                self.remember_model(&served);
            }
        }
        match observed {
            Observed::Restarted(old) => {
                self.node_lost(now, old, out);
                self.meet(from, out);
            }
            Observed::New => self.meet(from, out),
            Observed::Renewed => {}
            Observed::Stale => {
                self.counters.stale += 1;
                return;
            }
        }
        let behind = self
            .ledgers
            .get(&from.node)
            .is_some_and(|l| l.is_behind(number));
        if is_worker && behind {
            self.ask_snapshot(now, from, out);
        }
    }

    /// A node that was not known, or not in this epoch.
    fn meet(&mut self, node: NodeRef, out: &mut Vec<Effect>) {
        self.ledgers.insert(node.node, Ledger::default());
        let Some(member) = self
            .members
            .get(node.node)
            .filter(|m| !m.beat.model.is_empty())
        else {
            return;
        };
        if self.majority(&member.beat.model) != Some(kind(member)) {
            out.push(Effect::Note(Note::CardDiffers(node)));
        }
    }

    /// Asks a worker for all it has, unless it was just asked or too many are; its next beat leads here again.
    fn ask_snapshot(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        let asking = self.ledgers.values().filter(|l| l.is_asking(now)).count();
        let Some(ledger) = self.ledgers.get_mut(&node.node) else {
            return;
        };
        if ledger.is_asking(now) || asking >= ASKING_MAX {
            return;
        }
        ledger.ask(now);
        self.counters.gaps += 1;
        out.push(Effect::Note(Note::Missed(node)));
        out.push(Effect::Send(Outgoing {
            dest: Dest::Node(node.node),
            meta: Meta::node(self.config.me, node),
            message: SnapshotAsk {}.into(),
        }));
    }

    pub(super) fn notice(
        &mut self,
        now: Micros,
        from: NodeRef,
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        let ledger = self
            .ledgers
            .get_mut(&from.node)
            .filter(|_| self.members.is_live(from));
        let Some(ledger) = ledger else {
            self.counters.stale += 1;
            return;
        };
        let fresh = ledger.apply(notice);
        for change in fresh.unwrap_or_default() {
            match *change {
                Change::Stored(hash) => {
                    let learned = self.index.store(from.node, hash);
                    self.counters.unlearned += u64::from(!learned);
                }
                Change::Removed(hash) => self.index.remove(from.node, hash),
                Change::Covered {
                    request,
                    attempt,
                    placement,
                } => {
                    self.bookings.cover(now, (request, attempt, placement));
                }
            }
        }
        if fresh.is_none() {
            self.ask_snapshot(now, from, out);
        }
    }

    pub(super) fn snapshot_part(
        &mut self,
        now: Micros,
        from: NodeRef,
        part: SnapshotPart,
        out: &mut Vec<Effect>,
    ) {
        let ledger = self
            .ledgers
            .get_mut(&from.node)
            .filter(|_| self.members.is_live(from));
        let Some(ledger) = ledger else {
            self.counters.stale += 1;
            return;
        };
        let number = part.number;
        let Some(hashes) = ledger.add(part) else {
            return;
        };
        let unlearned = self.index.replace(from.node, hashes);
        self.counters.unlearned += unlearned;
        if self
            .members
            .get(from.node)
            .is_some_and(|m| m.beat.notice > number)
        {
            self.ask_snapshot(now, from, out);
        }
    }

    /// An incarnation is over: its blocks and bookings are forgotten, what waited for it is placed again, and
    /// the gateways of what it had are told.
    pub(super) fn node_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        self.index.clear(node.node);
        self.pools.remove(node);
        self.ledgers.remove(&node.node);
        self.bookings.forget(node);
        let waits = |p: &Placing| p.is_at(node);
        let waiting: Vec<PlacingKey> = self
            .placings
            .iter()
            .filter(|(_, p)| waits(p))
            .map(|(key, _)| *key)
            .collect();
        for key in waiting {
            self.place_again(now, key, out);
        }
        for (key, placed) in self.recent.take_of(node) {
            self.send(placed.gateway, key, 0, Orphaned { owner: node }, out);
        }
    }
}
