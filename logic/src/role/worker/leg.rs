//! The decode side of a remote prefill: ticket out, offers in, takes, releases.
//!
//! Blocks are chosen here, when an offer is taken, and sealed only when the owner says that the read was
//! valid. Whatever goes wrong, the rest of the prompt is prefilled here.

mod search;
mod take;

use bus_schemas::{
    Attempt, Item, Meta, NodeRef, Placement, Record, RequestId, Ticket,
    limits::{LEASE_US, REPEAT_US},
    messages::{Abort, Offer, Prefill},
};

use super::{
    Dest, Effect, Worker,
    job::{ChoiceState, Job, JobId, Leg},
};
use crate::{batch::Drawn, core::Micros, fact::What};

/// Offers of one ticket that may wait for their turn; a prefill worker has no reason to be further ahead.
const OFFERS_MAX: usize = 1024;

/// Why a remote prefill ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegEnd {
    /// The last offer was taken and released.
    Done,
    /// The job is over.
    Dropped,
    /// It failed: the rest is prefilled here.
    Failed,
}

impl Leg {
    pub(super) fn wake_at(&self) -> Micros {
        match &self.taking {
            Some(taking) => taking.timer,
            None if self.answered => self.repeat_at,
            None => self.repeat_at.min(self.answer_by),
        }
    }
}

impl Worker {
    /// Starts the work of a promised job: remotely, or here.
    pub(super) fn start(
        &mut self,
        now: Micros,
        id: JobId,
        prefill: Option<NodeRef>,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if job.is_done() {
            return;
        }
        match prefill {
            Some(peer) if peer != self.config.me => self.start_leg(now, id, peer, out),
            Some(_) | None => self.start_here(now, id, out),
        }
    }

    /// The lead may run; the others wait for it where they share its prompt.
    fn start_here(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let lead = job.lead;
        let tokens = job.lead_target() - job.choices[lead].seq.computed;
        out.push(Effect::Fact(job.fact(now, What::PrefillStarted(tokens))));
        if job.choices[lead].state == ChoiceState::Blocked {
            job.choices[lead].state = ChoiceState::Ready;
        }
        if job.fork_at.is_none() {
            for choice in &mut job.choices {
                if choice.state == ChoiceState::Blocked {
                    choice.state = ChoiceState::Ready;
                }
            }
        }
    }

    fn start_leg(&mut self, now: Micros, id: JobId, peer: NodeRef, out: &mut Vec<Effect>) {
        let serial = self.fresh_id();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let ticket = mint(&self.config.secret, job, peer, serial);
        job.prefilled_by = Some(peer);
        out.push(Effect::Fact(job.fact(now, What::PrefillAsked(peer))));
        job.leg = Some(Leg {
            ticket,
            peer,
            answered: false,
            repeat_at: now,
            repeat_us: REPEAT_US,
            answer_by: now.after(LEASE_US),
            next_seq: 0,
            offers: std::collections::BTreeMap::new(),
            taking: None,
        });
        self.by_ticket.insert(ticket, id);
        self.ask_prefill(now, id, out);
        self.schedule_job(now, id);
    }

    fn ask_prefill(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let block = self.config.block_tokens;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let from_block = job.choices[job.lead].seq.computed / block;
        let prompt = job.prompt.len();
        let emitted = job
            .choices
            .iter()
            .map(|c| c.seq.ids[prompt..].to_vec())
            .collect();
        let ended = job
            .choices
            .iter()
            .filter(|c| c.state == ChoiceState::Ended)
            .map(|c| c.index)
            .collect();
        let Some(leg) = job.leg.as_mut() else { return };
        leg.repeat_at = now.after(leg.repeat_us);
        leg.repeat_us *= 2;
        let (ticket, peer) = (leg.ticket, leg.peer);
        let spec = (*job.spec).clone();
        let meta = self.job_meta(now, id, peer);
        let prefill = Prefill {
            ticket,
            spec,
            emitted,
            ended,
            from_block,
        };
        self.send(Dest::Node(peer.node), meta, prefill, out);
    }

    /// The meta of a letter about a job.
    pub(super) fn job_meta(&self, now: Micros, id: JobId, to: NodeRef) -> Meta {
        let from = self.config.me;
        self.jobs.get(&id).map_or(Meta::node(from, to), |job| Meta {
            from,
            to,
            request: job.key.request,
            attempt: job.key.attempt,
            remaining_us: job.deadline.since(now),
        })
    }

    pub(super) fn offer(&mut self, now: Micros, meta: Meta, offer: Offer, out: &mut Vec<Effect>) {
        let Some(id) = self.by_ticket.get(&offer.ticket).copied() else {
            // Without this the prefill worker would keep its blocks for as long as this node's beats renew its tickets.
            let reply = Meta {
                from: self.config.me,
                to: meta.from,
                ..meta
            };
            return self.send(
                Dest::Node(meta.from.node),
                reply,
                Abort {
                    ticket: offer.ticket,
                },
                out,
            );
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let prompt = job.prompt_len();
        let Some(leg) = job.leg.as_mut().filter(|leg| leg.peer == meta.from) else {
            self.counters.stale += 1;
            return;
        };
        // Of a peer whose beat is still to come the memory is not known: its offers wait, and the leg's own bound holds.
        if self.members.is_live(meta.from) {
            leg.answered = true;
            leg.repeat_at = now.after(LEASE_US);
        }
        job.cached_tokens = job.cached_tokens.max(offer.cached_tokens.min(prompt));
        if offer.blocks.is_empty() || offer.seq < leg.next_seq || leg.offers.len() >= OFFERS_MAX {
            return;
        }
        if offer.last && !self.first_tokens(now, id, &offer.first_tokens, out) {
            return self.end_leg(now, id, LegEnd::Failed, out);
        }
        if let Some(leg) = self.jobs.get_mut(&id).and_then(|job| job.leg.as_mut()) {
            leg.offers.entry(offer.seq).or_insert(offer);
            self.next_take(now, id, out);
        }
    }

    /// Streams the tokens that came with the last offer, once; false if they make no sense.
    fn first_tokens(
        &mut self,
        now: Micros,
        id: JobId,
        records: &[Record],
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(job) = self.jobs.get(&id) else {
            return false;
        };
        let vocabulary = self.config.vocabulary.len();
        let mut fresh = Vec::new();
        for choice in job.alive() {
            let output = job.output_len(choice);
            let index = job.choices[choice].index;
            let record = records.iter().find(|r| r.choice == index);
            let needed = job.fork_at.is_none() || output == 0;
            match record {
                Some(r) if r.index == output && r.id < vocabulary => {
                    fresh.push((choice, r.clone()))
                }
                Some(r) if r.index < output => {} // a repeat: it has been streamed
                Some(_) => return false,
                None if needed && !already_drawn(job, choice) => return false,
                None => {}
            }
        }
        for (choice, record) in fresh {
            let drawn = Drawn {
                id: record.id,
                logprob: record.logprob,
                top: record.top,
            };
            self.token(now, id, choice, drawn, out);
        }
        true
    }

    /// Ends a remote prefill.
    pub(super) fn end_leg(&mut self, now: Micros, id: JobId, end: LegEnd, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(leg) = job.leg.take() else { return };
        self.by_ticket.remove(&leg.ticket);
        if let Some(taking) = leg.taking {
            self.abandon_take(taking, out);
        }
        if end != LegEnd::Done {
            let meta = self.job_meta(now, id, leg.peer);
            self.send(
                Dest::Node(leg.peer.node),
                meta,
                Abort { ticket: leg.ticket },
                out,
            );
        }
        if end == LegEnd::Failed {
            self.fall_back(now, id, out);
        }
    }

    /// Nobody else prefills the rest.
    fn fall_back(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        self.counters.fallbacks += 1;
        if let Some(job) = self.jobs.get(&id) {
            out.push(Effect::Fact(job.fact(now, What::PrefillFailed)));
        }
        self.start_here(now, id, out);
    }

    pub(super) fn leg_ended_by_peer(
        &mut self,
        now: Micros,
        ticket: Ticket,
        from: NodeRef,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.by_ticket.get(&ticket).copied() else {
            return;
        };
        let leg = self.jobs.get(&id).and_then(|job| job.leg.as_ref());
        if leg.is_some_and(|leg| leg.peer == from) {
            self.end_leg(now, id, LegEnd::Failed, out);
        }
    }

    /// The first beat of a peer: what it has offered before can be taken now.
    pub(super) fn peer_heard(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        let mut waiting = Vec::new();
        for (id, job) in &mut self.jobs {
            if let Some(leg) = job.leg.as_mut().filter(|leg| leg.peer == node)
                && !leg.offers.is_empty()
            {
                leg.answered = true;
                leg.repeat_at = now.after(LEASE_US);
                waiting.push(*id);
            }
        }
        for id in waiting {
            self.next_take(now, id, out);
        }
    }

    pub(super) fn peer_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        let ids: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, j)| j.leg.as_ref().is_some_and(|leg| leg.peer == node))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.end_leg(now, id, LegEnd::Failed, out);
        }
    }

    pub(super) fn expire_leg(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(leg) = self.jobs.get(&id).and_then(|job| job.leg.as_ref()) else {
            return;
        };
        let stalled = leg
            .taking
            .as_ref()
            .is_some_and(|t| !t.landed && t.timer <= now);
        let ask_again = leg
            .taking
            .as_ref()
            .is_some_and(|t| t.landed && t.timer <= now);
        let idle = leg.taking.is_none();
        if stalled || (idle && !leg.answered && leg.answer_by <= now) {
            self.end_leg(now, id, LegEnd::Failed, out);
        } else if ask_again {
            self.ask_release(now, id, out);
        } else if idle && leg.repeat_at <= now {
            self.ask_if_it_is_known(now, id);
            self.ask_prefill(now, id, out);
        }
    }

    /// A leg that was answered and then heard nothing for a lease must be answered again: its ticket may have ended unheard.
    fn ask_if_it_is_known(&mut self, now: Micros, id: JobId) {
        let Some(leg) = self.jobs.get_mut(&id).and_then(|job| job.leg.as_mut()) else {
            return;
        };
        if std::mem::take(&mut leg.answered) {
            leg.answer_by = now.after(LEASE_US);
            leg.repeat_us = REPEAT_US;
        }
    }
}

/// Whether a choice's first token of this attempt is in the log.
fn already_drawn(job: &Job, choice: usize) -> bool {
    let index = job.choices[choice].index;
    job.items
        .iter()
        .any(|item| matches!(item, Item::Token(r) if r.choice == index))
}

/// An unguessable ticket, bound to all that it is about (TRANSPORT 4.3).
fn mint(secret: &[u8; 32], job: &Job, peer: NodeRef, serial: u64) -> Ticket {
    let RequestId(request) = job.key.request;
    let (Attempt(attempt), Placement(placement)) = (job.key.attempt, job.key.placement);
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&request.to_le_bytes());
    hasher.update(&attempt.to_le_bytes());
    hasher.update(&placement.to_le_bytes());
    hasher.update(peer.node.to_string().as_bytes());
    hasher.update(&peer.epoch.0.to_le_bytes());
    hasher.update(&serial.to_le_bytes());
    let mut ticket = [0; 16];
    ticket.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ticket(ticket)
}
