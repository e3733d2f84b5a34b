//! One take after the other: an offer's blocks are read, and count once the owner says that the read was valid.
//!
//! The destination of a read that was given up is never used before nothing can write into it.

use bus_schemas::{
    Meta,
    limits::{REPEAT_US, TAKE_STALL_US},
    messages::{Offer, Release, Released, SlotRef},
};

use super::{
    super::{
        Dest, Effect, Worker,
        job::{Job, JobId, Leg, Taking},
        sequence::next_block,
    },
    LegEnd,
};
use crate::{core::Micros, fact::What};

impl Worker {
    /// Takes the next offer if it is here and nothing is being taken.
    pub(super) fn next_take(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(leg) = job.leg.as_mut() else { return };
        if leg.taking.is_some() || !self.members.is_live(leg.peer) {
            return;
        }
        let Some(offer) = leg.offers.remove(&leg.next_seq) else {
            return;
        };
        if !fits(job, &offer, self.config.block_tokens) {
            return self.end_leg(now, id, LegEnd::Failed, out);
        }
        let Some(slots) = self.blocks_for(id, offer.blocks.len()) else {
            return self.end_leg(now, id, LegEnd::Failed, out);
        };
        let take = self.fresh_id();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(leg) = job.leg.as_mut() else { return };
        let pieces = offer
            .blocks
            .iter()
            .copied()
            .zip(slots.iter().copied())
            .collect();
        out.push(Effect::Take {
            take,
            ticket: leg.ticket,
            seq: offer.seq,
            owner: leg.peer,
            pieces,
        });
        let timer = now.after(TAKE_STALL_US);
        leg.taking = Some(Taking {
            take,
            offer,
            slots: slots.clone(),
            landed: false,
            timer,
        });
        self.unsettled.insert(take, Vec::new());
        self.by_take.insert(take, id);
        self.schedule_job(now, id);
    }

    /// Blocks to take into: those that were reserved, else from the pool.
    fn blocks_for(&mut self, id: JobId, count: usize) -> Option<Vec<SlotRef>> {
        let job = self.jobs.get_mut(&id)?;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            match next_block(&mut self.pool, &mut job.spare) {
                Some(slot) => slots.push(slot),
                None => {
                    self.free_all(slots);
                    return None;
                }
            }
        }
        Some(slots)
    }

    fn taking(&mut self, take: u64) -> Option<(JobId, &mut Leg)> {
        let id = self.by_take.get(&take).copied()?;
        let leg = self.jobs.get_mut(&id)?.leg.as_mut()?;
        leg.taking
            .as_ref()
            .is_some_and(|t| t.take == take)
            .then_some((id, leg))
    }

    pub(in crate::role::worker) fn take_progress(&mut self, now: Micros, take: u64) {
        if let Some((_, leg)) = self.taking(take)
            && let Some(taking) = leg.taking.as_mut()
        {
            taking.timer = now.after(TAKE_STALL_US);
        }
    }

    pub(in crate::role::worker) fn taken(
        &mut self,
        now: Micros,
        take: u64,
        landed: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some((id, leg)) = self.taking(take) else {
            return;
        };
        if !landed {
            return self.end_leg(now, id, LegEnd::Failed, out);
        }
        if let Some(taking) = leg.taking.as_mut() {
            taking.landed = true;
        }
        self.ask_release(now, id, out);
    }

    pub(super) fn ask_release(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(leg) = self.jobs.get_mut(&id).and_then(|job| job.leg.as_mut()) else {
            return;
        };
        let Some(taking) = leg.taking.as_mut() else {
            return;
        };
        taking.timer = now.after(REPEAT_US);
        let (ticket, seq, take, peer) = (leg.ticket, taking.offer.seq, taking.take, leg.peer);
        let meta = self.job_meta(now, id, peer);
        self.send(
            Dest::Node(peer.node),
            meta,
            Release { ticket, seq, take },
            out,
        );
        self.schedule_job(now, id);
    }

    pub(in crate::role::worker) fn released(
        &mut self,
        now: Micros,
        meta: &Meta,
        released: &Released,
        out: &mut Vec<Effect>,
    ) {
        let Some((id, leg)) = self.taking(released.take) else {
            return;
        };
        let ours = leg.peer == meta.from && leg.ticket == released.ticket;
        let Some(taking) = leg
            .taking
            .take_if(|t| ours && t.landed && t.offer.seq == released.seq)
        else {
            self.counters.stale += 1;
            return;
        };
        if !released.valid {
            leg.taking = Some(taking);
            return self.end_leg(now, id, LegEnd::Failed, out);
        }
        leg.next_seq += 1;
        self.by_take.remove(&taking.take);
        let count = taking.slots.len();
        self.counters.blocks_taken += count as u64;
        if let Some(job) = self.jobs.get_mut(&id) {
            let lead = &mut job.choices[job.lead].seq;
            for slot in taking.slots {
                lead.append(slot);
            }
            lead.advance(&mut self.pool, taking.offer.tokens);
            out.push(Effect::Fact(job.fact(now, What::Taken(count))));
        }
        if taking.offer.last {
            self.end_leg(now, id, LegEnd::Done, out);
            self.prompt_is_here(id);
        } else {
            self.next_take(now, id, out);
        }
    }

    /// The destination of a take that is given up is kept from use until nothing can write into it.
    pub(super) fn abandon_take(&mut self, taking: Taking, out: &mut Vec<Effect>) {
        self.by_take.remove(&taking.take);
        match self.unsettled.get_mut(&taking.take) {
            Some(held) => {
                for slot in &taking.slots {
                    self.pool.quarantine(*slot);
                }
                held.extend(taking.slots);
                out.push(Effect::CancelTake(taking.take));
            }
            None => self.free_all(taking.slots),
        }
    }

    pub(in crate::role::worker) fn settled(&mut self, take: u64) {
        for slot in self.unsettled.remove(&take).unwrap_or_default() {
            self.pool.settle(slot);
        }
    }
}

/// Whether an offer continues what the lead has and ends where it says.
fn fits(job: &Job, offer: &Offer, block_tokens: u32) -> bool {
    let have = job.choices[job.lead].seq.table.len();
    let target = if job.fork_at.is_some() {
        job.prompt_len()
    } else {
        job.lead_target()
    };
    let blocks = offer.tokens.div_ceil(block_tokens) as usize;
    let partial = offer.tokens < target && offer.tokens.is_multiple_of(block_tokens);
    offer.first_block as usize == have
        && offer.blocks.len() == blocks.saturating_sub(have)
        && offer.tokens <= target
        && (offer.last || partial)
}
