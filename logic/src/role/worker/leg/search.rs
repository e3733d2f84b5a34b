//! A prefill worker that refused: the router is asked once for another one.
//!
//! Nobody is asked about a leg that has brought something, and nobody is waited for longer than a repeat would
//! take. It never asks twice: after a second refusal the prompt is prefilled here.

use bus_schemas::{
    Meta, NodeRef, Ticket,
    limits::REPEAT_US,
    messages::{FindPrefill, PrefillFound},
};

use super::{
    super::{
        Dest, Effect, Worker,
        job::{JobId, JobKey, Search},
    },
    LegEnd,
};
use crate::{core::Micros, hash};

impl Worker {
    pub(in crate::role::worker) fn prefill_refused(
        &mut self,
        now: Micros,
        ticket: Ticket,
        from: NodeRef,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.by_ticket.get(&ticket).copied() else {
            return;
        };
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(leg) = job.leg.as_ref().filter(|leg| leg.peer == from) else {
            return;
        };
        let untouched = leg.next_seq == 0 && leg.offers.is_empty() && leg.taking.is_none();
        if untouched && job.search == Search::Never {
            self.end_leg(now, id, LegEnd::Dropped, out);
            self.find_another(now, id, from, out);
        } else {
            self.end_leg(now, id, LegEnd::Failed, out);
        }
    }

    fn find_another(&mut self, now: Micros, id: JobId, refused: NodeRef, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.search = Search::Until(now.after(REPEAT_US));
        let target = job.lead_target();
        let ids = &job.choices[job.lead].seq.ids;
        let ids = &ids[..ids.len().min(target as usize)];
        let find = FindPrefill {
            placement: job.key.placement,
            avoid: vec![refused],
            tokens: target,
            output: job.spec.max_tokens.saturating_sub(job.output_len(job.lead)),
            hashes: hash::sequence_hashes(hash::seed_of(&job.spec), ids, self.config.block_tokens),
        };
        let router = job.router;
        let meta = self.job_meta(now, id, router);
        self.send(Dest::Node(router.node), meta, find, out);
        self.schedule_job(now, id);
    }

    pub(in crate::role::worker) fn prefill_found(
        &mut self,
        now: Micros,
        meta: &Meta,
        found: &PrefillFound,
        out: &mut Vec<Effect>,
    ) {
        let key = JobKey {
            request: meta.request,
            attempt: meta.attempt,
            placement: found.placement,
        };
        let id = self.by_key.get(&key).copied();
        let waits = |id: &JobId| {
            self.jobs.get(id).is_some_and(|job| {
                job.router == meta.from && matches!(job.search, Search::Until(_))
            })
        };
        let Some(id) = id.filter(waits) else {
            self.counters.stale += 1;
            return;
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.search = Search::Over;
        let tried = [Some(self.config.me), job.prefilled_by];
        match found.prefill.filter(|peer| !tried.contains(&Some(*peer))) {
            Some(peer) => {
                self.counters.asked_again += 1;
                self.start_leg(now, id, peer, out);
            }
            None => self.fall_back(now, id, out),
        }
    }

    pub(in crate::role::worker) fn expire_search(
        &mut self,
        now: Micros,
        id: JobId,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if matches!(job.search, Search::Until(at) if at <= now) {
            job.search = Search::Over;
            self.fall_back(now, id, out);
        }
    }
}
