//! May it enter: a request checked against this worker, and memory pinned and reserved for it.
//!
//! Nothing is changed by a request that is refused.

use std::sync::Arc;

use bus_schemas::{
    Meta, RefuseReason, Role,
    limits::{CHOICES_MAX, PROMPT_TOKENS_MAX, REPEAT_US},
    messages::{Intake, Reserve},
};

use super::super::{
    Worker,
    job::{Choice, ChoiceState, Job, JobKey, Search},
    sequence::Sequence,
    stop::StopScan,
};
use crate::{fact::Span, hash};

impl Worker {
    pub(super) fn check_admissible(
        &self,
        meta: &Meta,
        key: JobKey,
        reserve: &Reserve,
    ) -> Result<(), RefuseReason> {
        let spec = &reserve.admit.spec;
        let vocabulary = self.config.vocabulary.len();
        let known = |ids: &[u32]| ids.iter().all(|id| *id < vocabulary);
        let choices = usize::from(spec.choices);
        let ended = &reserve.admit.ended;
        if self.ended_jobs.contains_key(&key) {
            return Err(RefuseReason::Ended);
        }
        if !self.config.roles.has(Role::Decode) || spec.model != self.config.model {
            return Err(RefuseReason::UnknownModel);
        }
        match self.intake {
            Intake::Open => {}
            Intake::Cordoned => return Err(RefuseReason::NoCapacity),
            Intake::Draining => return Err(RefuseReason::Draining),
        }
        if meta.remaining_us == 0 {
            return Err(RefuseReason::Expired);
        }
        let sane = spec.request == meta.request
            && (1..=PROMPT_TOKENS_MAX).contains(&spec.prompt.len())
            && known(&spec.prompt)
            && (1..=CHOICES_MAX).contains(&spec.choices)
            && reserve.admit.emitted.len() == choices
            && reserve
                .admit
                .emitted
                .iter()
                .all(|e| known(e) && e.len() <= spec.max_tokens as usize)
            && ended.iter().all(|c| usize::from(*c) < choices)
            && ended.len() < choices;
        if !sane {
            return Err(RefuseReason::Invalid);
        }
        if spec.prompt.len() >= self.config.context_tokens as usize {
            return Err(RefuseReason::TooLarge);
        }
        let crowded = reserve.admit.alone && !(self.jobs.is_empty() && self.sources.is_empty());
        if crowded || self.is_kept_apart() || self.jobs.len() >= self.config.jobs_max {
            return Err(RefuseReason::Full);
        }
        Ok(())
    }

    /// A request runs here that may take its worker along: nobody else's is put beside it.
    pub(in crate::role::worker) fn is_kept_apart(&self) -> bool {
        self.jobs.values().any(|job| job.alone)
    }

    pub(super) fn new_job(&self, span: Span, meta: &Meta, key: JobKey, reserve: Reserve) -> Job {
        let now = span.since;
        let admit = reserve.admit;
        let seed = hash::seed_of(&admit.spec);
        let choices: Vec<Choice> = (0u16..)
            .zip(&admit.emitted)
            .map(|(index, emitted)| {
                let ids = [admit.spec.prompt.as_slice(), emitted].concat();
                let ended = admit.ended.contains(&index);
                Choice {
                    index,
                    state: if ended {
                        ChoiceState::Ended
                    } else {
                        ChoiceState::Blocked
                    },
                    seq: Sequence::new(seed, self.config.block_tokens, ids),
                    scan: StopScan::default(),
                    drilled: false,
                }
            })
            .collect();
        let alive: Vec<usize> = (0..choices.len())
            .filter(|c| choices[*c].state != ChoiceState::Ended)
            .collect();
        let lead = alive
            .iter()
            .copied()
            .min_by_key(|c| choices[*c].seq.ids.len())
            .unwrap_or(0);
        let prompt: Arc<[u32]> = admit.spec.prompt.as_slice().into();
        let prompt_len = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        Job {
            key,
            gateway: reserve.gateway,
            router: meta.from,
            prompt,
            sampling: Arc::new(admit.spec.sampling.clone()),
            spec: Arc::new(admit.spec),
            span,
            deadline: now.after(meta.remaining_us),
            bound: false,
            repeat_at: now.after(REPEAT_US),
            choices,
            lead,
            fork_at: (alive.len() > 1).then_some(prompt_len),
            leg: None,
            search: Search::Never,
            spare: Vec::new(),
            cached_tokens: 0,
            prefilled_by: None,
            items: Vec::new(),
            sent: 0,
            failed: false,
            alone: admit.alone,
        }
    }

    /// Pins what is cached and reserves the rest of the prompt and the expected output.
    pub(super) fn reserve_memory(&mut self, job: &mut Job) -> Result<(), RefuseReason> {
        let block = self.config.block_tokens;
        let target = job.lead_target();
        let shared_blocks = (job.prompt_len() / block) as usize;
        let (mut least, mut wanted) = (0, 0);
        for index in job.alive() {
            let base = if index == job.lead { 0 } else { shared_blocks };
            let len = job.choices[index].seq.len().max(target);
            let left = job.spec.max_tokens - job.output_len(index);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a mean of u32"
            )]
            let expected = (self.output_mean.ceil() as u32).clamp(1, left.max(1));
            least += (len.div_ceil(block) as usize).saturating_sub(base);
            wanted += ((len + expected).div_ceil(block) as usize).saturating_sub(base);
        }
        if least > self.config.slots as usize {
            return Err(RefuseReason::TooLarge);
        }
        wanted = wanted.min(self.config.slots as usize);
        let lead = &mut job.choices[job.lead].seq;
        let cached = lead.attach_cached(&mut self.pool, target);
        let missing = wanted.saturating_sub(lead.table.len());
        match self.pool.reserve(missing) {
            Some(slots) => {
                job.spare = slots;
                job.cached_tokens = cached.min(job.prompt_len());
                self.counters.cached_tokens += u64::from(job.cached_tokens);
                Ok(())
            }
            None => {
                lead.release(&mut self.pool);
                Err(RefuseReason::Full)
            }
        }
    }
}
