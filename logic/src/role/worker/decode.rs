//! Promises and owners: what a decode worker does for gateways and routers.
//!
//! A promise is memory that is already reserved. Refused and ended placements are remembered until their
//! deadline, so that repeats change nothing.

mod admission;

use bus_schemas::{
    EndReason, Item, Meta, NodeRef, Placement, RefuseReason, Role,
    limits::REPEAT_US,
    messages::{AnyMessage, Change, Promised, Refused, Reserve, Unknown},
};

use super::{
    Dest, Effect, Timer, Worker,
    job::{ChoiceState, JobId, JobKey},
    leg::LegEnd,
};
use crate::{
    core::Micros,
    fact::{Span, What},
};

/// Weight of one observed output in the running mean (PLACEMENT section 5).
const OUTPUT_STEP: f64 = 0.01;

impl Worker {
    pub(super) fn reserve(
        &mut self,
        now: Micros,
        meta: Meta,
        mut reserve: Reserve,
        out: &mut Vec<Effect>,
    ) {
        let key = JobKey {
            request: meta.request,
            attempt: meta.attempt,
            placement: reserve.placement,
        };
        if let Some(id) = self.by_key.get(&key).copied() {
            if self.jobs.get(&id).is_some_and(|job| !job.bound) {
                self.promise(now, id, true, out);
            }
            return;
        }
        let (gateway, prefill) = (reserve.gateway, reserve.prefill);
        let spec = &mut reserve.admit.spec;
        let span = Span::enter(now, spec, (Role::Decode, self.config.me), key.attempt);
        match self.try_reserve(span, &meta, key, reserve) {
            Ok(id) => {
                debug_assert_eq!(self.jobs[&id].gateway, gateway, "the job is the request's");
                self.counters.promised += 1;
                self.changes.push(Change::Covered {
                    request: key.request,
                    attempt: key.attempt,
                    placement: key.placement,
                });
                self.promise(now, id, true, out);
                self.start(now, id, prefill, out);
            }
            Err(reason) => {
                self.counters.refused += 1;
                self.remember_ended(key, now.after(meta.remaining_us));
                let fact = span.fact(now, key.attempt, What::Refused(reason));
                out.push(Effect::Fact(fact));
                self.refuse(&meta, key, reason, out);
            }
        }
    }

    fn refuse(&self, meta: &Meta, key: JobKey, reason: RefuseReason, out: &mut Vec<Effect>) {
        let meta = Meta {
            from: self.config.me,
            to: meta.from,
            ..*meta
        };
        let refused = Refused {
            placement: key.placement,
            reason,
        };
        self.send(Dest::Node(meta.to.node), meta, refused, out);
    }

    /// The letter was meant for an earlier epoch of this node.
    pub(super) fn stale_addressee(
        &mut self,
        meta: &Meta,
        message: &AnyMessage,
        out: &mut Vec<Effect>,
    ) {
        self.counters.stale += 1;
        let placement = match message {
            AnyMessage::Reserve(reserve) => {
                let key = JobKey {
                    request: meta.request,
                    attempt: meta.attempt,
                    placement: reserve.placement,
                };
                return self.refuse(meta, key, RefuseReason::Stale, out);
            }
            AnyMessage::AskTokens(ask) => ask.placement,
            AnyMessage::Bound(bound) => bound.placement,
            AnyMessage::Cancel(cancel) => cancel.placement,
            _ => return,
        };
        self.unknown(meta, placement, out);
    }

    /// Says that no such placement is here.
    pub(super) fn unknown(&self, meta: &Meta, placement: Placement, out: &mut Vec<Effect>) {
        let meta = Meta {
            from: self.config.me,
            to: meta.from,
            ..*meta
        };
        self.send(Dest::Node(meta.to.node), meta, Unknown { placement }, out);
    }

    fn try_reserve(
        &mut self,
        span: Span,
        meta: &Meta,
        key: JobKey,
        reserve: Reserve,
    ) -> Result<JobId, RefuseReason> {
        self.check_admissible(meta, key, &reserve)?;
        let id = self.fresh_id();
        let mut job = self.new_job(span, meta, key, reserve);
        self.reserve_memory(&mut job)?;
        self.by_key.insert(key, id);
        self.timers.insert((job.repeat_at, Timer::Job(id)));
        self.jobs.insert(id, job);
        self.end_what_has_ended(span.since, id);
        Ok(id)
    }

    /// A resumed request may come with a choice whose end was lost with its last owner.
    fn end_what_has_ended(&mut self, now: Micros, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        for choice in job.alive().collect::<Vec<_>>() {
            let Some(job) = self.jobs.get_mut(&id) else {
                return;
            };
            let prompt = job.prompt.len();
            let output: Vec<u32> = job.choices[choice].seq.ids[prompt..].to_vec();
            let mut end = None;
            for (count, token) in (1u32..).zip(output) {
                let length = job.length(count, self.config.context_tokens);
                let scan = &mut job.choices[choice].scan;
                end = scan.push(token, &job.spec.stops, &*self.config.vocabulary, length);
            }
            if let Some(reason) = end {
                self.end_choice(now, id, choice, reason, &mut Vec::new());
            }
        }
    }

    /// Gives a choice its next token and ends it if it must.
    pub(super) fn token(
        &mut self,
        now: Micros,
        id: JobId,
        choice: usize,
        drawn: crate::batch::Drawn,
        out: &mut Vec<Effect>,
    ) {
        let token = drawn.id;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if !job.items.iter().any(|i| matches!(i, Item::Token(_))) {
            out.push(Effect::Fact(job.fact(now, What::FirstToken)));
        }
        job.push_token(choice, drawn);
        self.dirty.insert(id);
        self.counters.generated_tokens += 1;
        let length = job.length(job.output_len(choice), self.config.context_tokens);
        let scan = &mut job.choices[choice].scan;
        if let Some(reason) = scan.push(token, &job.spec.stops, &*self.config.vocabulary, length) {
            self.end_choice(now, id, choice, reason, out);
        }
    }

    pub(super) fn end_choice(
        &mut self,
        now: Micros,
        id: JobId,
        choice: usize,
        reason: EndReason,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let output = f64::from(job.output_len(choice));
        self.output_mean += OUTPUT_STEP * (output - self.output_mean);
        job.push_end(choice, reason);
        if choice == job.lead && job.fork_at.is_some() {
            job.next_lead();
        }
        self.dirty.insert(id);
        let fresh = job.choices[choice].seq.successor();
        let old = std::mem::replace(&mut job.choices[choice].seq, fresh);
        let done = job.is_done();
        self.retire(old);
        if done {
            self.rest(now, id, out);
        }
    }

    /// Every choice has ended: memory goes back, the log stays until it is confirmed.
    fn rest(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        self.end_leg(now, id, LegEnd::Dropped, out);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.repeat_at = now.after(REPEAT_US);
        out.push(Effect::Fact(job.fact(now, What::Done)));
        let spare = std::mem::take(&mut job.spare);
        let at = job.repeat_at;
        self.free_all(spare);
        self.timers.insert((at, Timer::Job(id)));
    }

    /// The engine could not run it: its gateway is told that nothing follows.
    pub(super) fn fail_job(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.failed = true;
        self.dirty.insert(id);
        for choice in 0..job.choices.len() {
            let Some(job) = self.jobs.get_mut(&id) else {
                return;
            };
            job.choices[choice].state = ChoiceState::Ended;
            let fresh = job.choices[choice].seq.successor();
            let old = std::mem::replace(&mut job.choices[choice].seq, fresh);
            self.retire(old);
        }
        self.rest(now, id, out);
    }

    pub(super) fn promise(
        &mut self,
        now: Micros,
        id: JobId,
        to_router: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.repeat_at = now.after(REPEAT_US);
        let (at, key, gateway, router) = (job.repeat_at, job.key, job.gateway, job.router);
        let table: usize = job.choices.iter().map(|c| c.seq.table.len()).sum();
        let blocks = u32::try_from(table + job.spare.len()).unwrap_or(u32::MAX);
        if to_router {
            let promised = What::Promised(key.placement, blocks);
            out.push(Effect::Fact(job.fact(now, promised)));
        }
        let remaining_us = job.deadline.since(now);
        let meta = |to: NodeRef| Meta {
            from: self.config.me,
            to,
            request: key.request,
            attempt: key.attempt,
            remaining_us,
        };
        let promised = Promised {
            placement: key.placement,
            router,
            blocks,
        };
        self.send(
            Dest::Node(gateway.node),
            meta(gateway),
            promised.clone(),
            out,
        );
        if to_router {
            self.send(Dest::Node(router.node), meta(router), promised, out);
        }
        self.timers.insert((at, Timer::Job(id)));
    }
}
