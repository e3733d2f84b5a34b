//! The owner's side of a promise: bound, asked, cancelled, confirmed, let go, and what it says meanwhile.
//!
//! A job is kept until its gateway confirms the end, cancels it, dies, or the deadline passes. It never
//! decides by itself that its gateway has heard enough.

use bus_schemas::{
    Meta, NodeRef, Placement, RequestId,
    limits::{LEASE_US, REPEAT_US},
    messages::{AskTokens, Stream},
};

use super::{
    Dest, Effect, Timer, Worker,
    job::{Job, JobId, JobKey, Search},
    leg::LegEnd,
};
use crate::{core::Micros, fact::What};

/// Ended placements remembered at most: some 100 bytes each; beyond it the oldest request goes first.
const ENDED_MAX: usize = 1 << 16;
/// Between two letters of tokens: steps that are faster than this share one, for a letter costs what many tokens do. No
/// client sees it, and a first token or an end goes at once.
const TOKENS_GAP_US: u64 = 1_000;

impl Worker {
    fn find(&self, meta: &Meta, placement: Placement) -> Option<JobId> {
        let key = JobKey {
            request: meta.request,
            attempt: meta.attempt,
            placement,
        };
        let id = self.by_key.get(&key).copied()?;
        (self.jobs.get(&id)?.gateway == meta.from).then_some(id)
    }

    pub(super) fn bound(
        &mut self,
        now: Micros,
        meta: &Meta,
        placement: Placement,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self
            .find(meta, placement)
            .and_then(|id| self.jobs.get_mut(&id))
        else {
            return;
        };
        if !std::mem::replace(&mut job.bound, true) {
            out.push(Effect::Fact(job.fact(now, What::Bound(self.config.me))));
        }
        job.deadline = job.deadline.min(now.after(meta.remaining_us));
    }

    pub(super) fn cancel(
        &mut self,
        now: Micros,
        meta: &Meta,
        placement: Placement,
        out: &mut Vec<Effect>,
    ) {
        if let Some(id) = self.find(meta, placement) {
            self.let_go(now, id, out);
        } else {
            let key = JobKey {
                request: meta.request,
                attempt: meta.attempt,
                placement,
            };
            self.remember_ended(key, now.after(meta.remaining_us.max(LEASE_US)));
        }
        self.unknown(meta, placement, out);
    }

    pub(super) fn confirm(
        &mut self,
        now: Micros,
        meta: &Meta,
        placement: Placement,
        out: &mut Vec<Effect>,
    ) {
        if let Some(id) = self.find(meta, placement) {
            self.forget(now, id, out);
        }
    }

    pub(super) fn ask_tokens(
        &mut self,
        now: Micros,
        meta: &Meta,
        ask: &AskTokens,
        out: &mut Vec<Effect>,
    ) {
        match self.find(meta, ask.placement) {
            None => self.unknown(meta, ask.placement, out),
            Some(id) => {
                self.bound(now, meta, ask.placement, out);
                self.dirty.remove(&id);
                if let Some(job) = self.jobs.get_mut(&id) {
                    let from = (ask.from as usize).min(job.items.len());
                    job.sent = job.items.len();
                    let stream = stream(job, from);
                    self.outbox.entry(job.gateway).or_default().push(stream);
                }
            }
        }
    }

    /// Ends a job on somebody's order or for want of somebody: nothing more is said of it.
    pub(super) fn let_go(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        self.counters.let_go += 1;
        if let Some(job) = self.jobs.get(&id) {
            out.push(Effect::Fact(job.fact(now, What::LetGo)));
        }
        self.forget(now, id, out);
    }

    fn forget(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        self.end_leg(now, id, LegEnd::Dropped, out);
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.by_key.remove(&job.key);
        for choice in job.choices {
            self.retire(choice.seq);
        }
        self.free_all(job.spare);
        self.remember_ended(job.key, job.deadline);
    }

    pub(super) fn remember_ended(&mut self, key: JobKey, until: Micros) {
        if self.ended_jobs.len() >= ENDED_MAX {
            self.ended_jobs.pop_first();
        }
        if self.ended_jobs.insert(key, until).is_none() {
            self.timers.insert((until, Timer::EndedJob(key)));
        }
    }

    pub(super) fn evict(&mut self, now: Micros, request: RequestId, out: &mut Vec<Effect>) {
        let ids: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, j)| j.key.request == request)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.hand_back(now, id, out);
        }
    }

    /// Gives a job back to its gateway, which goes on elsewhere.
    pub(super) fn hand_back(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (key, gateway) = (job.key, job.gateway);
        let meta = Meta {
            from: gateway,
            to: self.config.me,
            request: key.request,
            attempt: key.attempt,
            remaining_us: job.deadline.since(now),
        };
        self.let_go(now, id, out);
        self.unknown(&meta, key.placement, out);
    }

    pub(super) fn gateway_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        let ids: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, j)| j.gateway == node)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.let_go(now, id, out);
        }
    }

    /// Jobs of a gateway that never beat in the job's epoch, or lived before it was restarted, are not kept longer than one lease.
    pub(super) fn orphaned_jobs(&mut self, now: Micros, out: &mut Vec<Effect>) {
        let ids: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, j)| now.since(j.span.since) > LEASE_US && !self.members.is_live(j.gateway))
            .map(|(id, _)| *id)
            .collect();
        if self.members.is_judging(now) {
            for id in ids {
                self.let_go(now, id, out);
            }
        }
    }

    pub(super) fn expire_job(&mut self, now: Micros, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.deadline <= now {
            return self.let_go(now, id, out);
        }
        if job.repeat_at <= now {
            if !job.bound {
                self.promise(now, id, false, out);
            } else if job.is_done() {
                job.repeat_at = now.after(REPEAT_US);
                let from = job.items.len().saturating_sub(1);
                let stream = stream(job, from);
                self.outbox.entry(job.gateway).or_default().push(stream);
            }
        }
        self.expire_search(now, id, out);
        self.expire_leg(now, id, out);
        self.schedule_job(now, id);
    }

    /// Arms the timer of a job for whatever comes first.
    pub(super) fn schedule_job(&mut self, now: Micros, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let repeats = !job.bound || job.is_done();
        let repeat = if repeats {
            job.repeat_at.max(now.after(1))
        } else {
            job.deadline
        };
        let leg = job
            .leg
            .as_ref()
            .map_or(job.deadline, super::job::Leg::wake_at);
        let search = match job.search {
            Search::Until(at) => at,
            Search::Never | Search::Over => job.deadline,
        };
        let first = job.deadline.min(repeat).min(leg).min(search);
        self.timers.insert((first, Timer::Job(id)));
    }

    /// Puts what is new in every job into one letter per gateway, unless there was one a moment ago and all of it can wait.
    pub(super) fn flush_tokens(&mut self, now: Micros, out: &mut Vec<Effect>) {
        let waits = |id| self.jobs.get(id).is_none_or(Job::can_wait);
        if now < self.tokens_at && self.outbox.is_empty() && self.dirty.iter().all(waits) {
            return;
        }
        if !self.dirty.is_empty() {
            self.tokens_at = now.after(TOKENS_GAP_US);
        }
        for id in std::mem::take(&mut self.dirty) {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let stream = stream(job, job.sent);
            job.sent = job.items.len();
            self.outbox.entry(job.gateway).or_default().push(stream);
        }
        for (gateway, streams) in std::mem::take(&mut self.outbox) {
            let meta = Meta::node(self.config.me, gateway);
            let tokens = bus_schemas::messages::Tokens { streams };
            self.send(Dest::Node(gateway.node), meta, tokens, out);
        }
    }
}

/// What a job has to say from an item on.
fn stream(job: &Job, from: usize) -> Stream {
    Stream {
        request: job.key.request,
        attempt: job.key.attempt,
        placement: job.key.placement,
        first: u32::try_from(from).unwrap_or(u32::MAX),
        items: job.items[from..].to_vec(),
        cached_tokens: job.cached_tokens,
        last: job.is_done(),
        failed: job.failed,
    }
}
