//! The end of a ticket: blocks released one by one, or the whole of it given up.
//!
//! An ended ticket keeps its answers until the deadline, and its blocks as long as a late read may look at them.

use std::collections::BTreeMap;

use bus_schemas::{
    Meta, NodeRef, Ticket,
    limits::{LEASE_US, TICKET_GRACE_US, TICKET_US},
    messages::{Abort, Release, Released, SlotRef},
};

use super::{
    super::{Dest, Effect, Timer, Worker, sequence::Sequence},
    Source,
};
use crate::{core::Micros, fact::What};

/// Ended tickets remembered at most: some 200 bytes each.
const ENDED_TICKETS_MAX: usize = 1 << 16;

/// A ticket that has ended: what was answered under it, and blocks that a late read may still look at.
#[derive(Debug)]
pub(in crate::role::worker) struct EndedTicket {
    forget_at: Micros,
    reuse_at: Option<Micros>,
    answers: BTreeMap<(u32, u64), bool>,
    held: Option<(Sequence, Vec<SlotRef>)>,
}

impl EndedTicket {
    pub(in crate::role::worker) fn held(&self) -> Option<(&Sequence, &[SlotRef])> {
        self.held
            .as_ref()
            .map(|(seq, spare)| (seq, spare.as_slice()))
    }
}

impl Worker {
    pub(in crate::role::worker) fn release(
        &mut self,
        now: Micros,
        meta: &Meta,
        release: &Release,
        out: &mut Vec<Effect>,
    ) {
        let &Release { ticket, seq, take } = release;
        let valid = match self.sources.get_mut(&ticket) {
            Some(source) if source.audience == meta.from => {
                match source.offers.get_mut(seq as usize) {
                    Some(offered) => {
                        offered.released = true;
                        source.answers.insert((seq, take), true);
                        true
                    }
                    None => false,
                }
            }
            Some(_) => false,
            None => self
                .ended_tickets
                .get(&ticket)
                .and_then(|t| t.answers.get(&(seq, take)).copied())
                .unwrap_or(false),
        };
        let reply = Meta {
            from: self.config.me,
            to: meta.from,
            ..*meta
        };
        self.send(
            Dest::Node(meta.from.node),
            reply,
            Released {
                ticket,
                seq,
                take,
                valid,
            },
            out,
        );
        if self.sources.get(&ticket).is_some_and(Source::all_released) {
            self.end_source(now, ticket, false, out);
        }
    }

    /// Ends a ticket. `graceful`: a read may be under way, so its blocks are kept for the grace time.
    pub(in crate::role::worker) fn end_source(
        &mut self,
        now: Micros,
        ticket: Ticket,
        graceful: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(source) = self.sources.remove(&ticket) else {
            return;
        };
        out.push(Effect::Revoke(ticket));
        let what = if source.all_released() {
            What::Done
        } else {
            What::LetGo
        };
        out.push(Effect::Fact(source.fact(now, what)));
        let reuse_at = graceful.then(|| now.after(TICKET_GRACE_US));
        let held = if graceful {
            Some((source.seq, source.spare))
        } else {
            self.retire(source.seq);
            self.free_all(source.spare);
            None
        };
        if self.ended_tickets.len() >= ENDED_TICKETS_MAX {
            self.forget_a_ticket();
        }
        let forget_at = source.deadline.max(now.after(TICKET_GRACE_US));
        self.timers
            .insert((reuse_at.unwrap_or(forget_at), Timer::EndedTicket(ticket)));
        self.ended_tickets.insert(
            ticket,
            EndedTicket {
                forget_at,
                reuse_at,
                answers: source.answers,
                held,
            },
        );
    }

    fn forget_a_ticket(&mut self) {
        let idle = self
            .ended_tickets
            .iter()
            .find(|(_, t)| t.held.is_none())
            .map(|(k, _)| *k);
        if let Some(ticket) = idle {
            self.ended_tickets.remove(&ticket);
        }
    }

    pub(in crate::role::worker) fn expire_ended_ticket(&mut self, now: Micros, ticket: Ticket) {
        let Some(ended) = self.ended_tickets.get_mut(&ticket) else {
            return;
        };
        if ended.reuse_at.is_some_and(|at| at <= now)
            && let Some((seq, spare)) = ended.held.take()
        {
            ended.reuse_at = None;
            self.retire(seq);
            self.free_all(spare);
        }
        let Some(ended) = self.ended_tickets.get(&ticket) else {
            return;
        };
        if ended.held.is_none() && ended.forget_at <= now {
            self.ended_tickets.remove(&ticket);
        } else {
            let at = ended.reuse_at.unwrap_or(ended.forget_at);
            self.timers
                .insert((at.max(now.after(1)), Timer::EndedTicket(ticket)));
        }
    }

    /// The holder of the ticket says that it is done with it, so nobody reads any more.
    pub(in crate::role::worker) fn source_aborted(
        &mut self,
        now: Micros,
        ticket: Ticket,
        from: NodeRef,
        out: &mut Vec<Effect>,
    ) {
        if self
            .sources
            .get(&ticket)
            .is_some_and(|s| s.audience == from)
        {
            self.end_source(now, ticket, false, out);
        }
    }

    pub(in crate::role::worker) fn audience_lost(
        &mut self,
        now: Micros,
        node: NodeRef,
        out: &mut Vec<Effect>,
    ) {
        let lost: Vec<Ticket> = self
            .sources
            .iter()
            .filter(|(_, s)| s.audience == node)
            .map(|(t, _)| *t)
            .collect();
        for ticket in lost {
            self.end_source(now, ticket, true, out);
        }
    }

    /// A decode worker's beat renews the tickets that it holds.
    pub(in crate::role::worker) fn renew_tickets(&mut self, now: Micros, from: NodeRef) {
        for source in self.sources.values_mut().filter(|s| s.audience == from) {
            source.expires_at = now.after(TICKET_US);
        }
    }

    pub(in crate::role::worker) fn fail_source(
        &mut self,
        now: Micros,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        self.abort_source(now, ticket, out);
    }

    /// Ends a ticket from this side and says so.
    fn abort_source(&mut self, now: Micros, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(source) = self.sources.get(&ticket) else {
            return;
        };
        let (meta, dest) = (
            self.source_meta(now, source),
            Dest::Node(source.audience.node),
        );
        self.send(dest, meta, Abort { ticket }, out);
        self.end_source(now, ticket, true, out);
    }

    pub(in crate::role::worker) fn expire_source(
        &mut self,
        now: Micros,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let Some(source) = self.sources.get_mut(&ticket) else {
            return;
        };
        // Silence ends a ticket only where it means something: else its holder gets one whole lease to be heard.
        if source.deadline <= now || (source.expires_at <= now && self.members.is_judging(now)) {
            return self.abort_source(now, ticket, out);
        }
        if source.expires_at <= now {
            source.expires_at = now.after(LEASE_US);
        }
        self.send_offers(now, ticket, out);
        self.schedule_source(ticket);
    }

    pub(super) fn schedule_source(&mut self, ticket: Ticket) {
        if let Some(source) = self.sources.get(&ticket) {
            self.timers
                .insert((source.wake_at(), Timer::Source(ticket)));
        }
    }
}
