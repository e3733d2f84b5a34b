//! One engine step out, one result in.
//!
//! Decoding rows come first, oldest request first; prompt chunks fill what is left of the token budget,
//! shortest uncached prompt first with ageing (PLACEMENT section 6). At most one step is out at a time.

mod fork;
mod rows;

use bus_schemas::{RequestSpec, Ticket};

use super::{
    Effect, Worker,
    job::{ChoiceState, Job, JobId},
};
use crate::{
    batch::{StepPlan, StepResult},
    core::Micros,
};

/// Ageing of a waiting prompt: its key is arrival + this times its predicted time (PLACEMENT section 6).
const AGEING: f64 = 5.0;
/// Weight of one step in the node's scale factor.
const SCALE_STEP: f32 = 0.05;
/// Bounds of one correction of the scale, so that an outlier (first step, a stolen core) does not count.
const SCALE_BOUNDS: (f32, f32) = (0.5, 2.0);

/// The step that is out.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) number: u64,
    rows: Vec<RowOf>,
    predicted_us: f32,
}

/// Whose row, and how many positions have keys and values after it.
#[derive(Clone, Copy, Debug)]
struct RowOf {
    who: Who,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Choice(JobId, usize),
    Source(Ticket),
}

/// A prompt that wants a chunk.
#[derive(Debug)]
struct Candidate {
    order: (i16, u64),
    who: Who,
}

impl Worker {
    /// Starts the next step if none is out and there is something to run.
    pub(super) fn plan_step(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if self.running.is_some() {
            return;
        }
        self.drill();
        self.resume_preempted();
        let mut plan = StepPlan {
            number: self.next_step,
            ..StepPlan::default()
        };
        let mut rows = Vec::new();
        let mut budget = self.config.step_tokens_max;
        self.add_decoding(now, &mut budget, &mut plan, &mut rows, out);
        let blocked = self.add_chunks(&mut budget, &mut plan, &mut rows);
        if rows.is_empty()
            && let Some((id, choice)) = blocked
            && !self.make_room(id, choice)
        {
            self.starve(now, id, choice, out);
        }
        if rows.is_empty() && self.copies.is_empty() {
            return;
        }
        plan.copies = std::mem::take(&mut self.copies);
        let predicted_us = self.predict(&plan);
        self.running = Some(Running {
            number: plan.number,
            rows,
            predicted_us,
        });
        self.next_step += 1;
        self.counters.steps += 1;
        out.push(Effect::Step(plan));
    }

    /// The drill: a choice that has its fill of tokens gives up its memory once.
    fn drill(&mut self) {
        let Some(after) = self.config.drill_preempt_after else {
            return;
        };
        let due: Vec<(JobId, usize)> = self
            .jobs
            .iter()
            .flat_map(|(id, job)| {
                job.alive()
                    .filter(|c| is_due_for_drill(job, *c, after))
                    .map(|c| (*id, c))
            })
            .collect();
        for (id, choice) in due {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.choices[choice].drilled = true;
            }
            self.preempt(id, choice);
        }
    }

    fn add_decoding(
        &mut self,
        now: Micros,
        budget: &mut u32,
        plan: &mut StepPlan,
        rows: &mut Vec<RowOf>,
        out: &mut Vec<Effect>,
    ) {
        let ready: Vec<(JobId, usize)> = self
            .jobs
            .iter()
            .flat_map(|(id, job)| {
                job.alive()
                    .filter(|c| is_decoding(job, *c))
                    .map(|c| (*id, c))
            })
            .collect();
        for (id, choice) in ready {
            if *budget == 0 || rows.len() >= self.config.rows_max {
                return;
            }
            if self.hold(now, id, choice, out) {
                *budget -= 1;
                self.add_choice_row(id, choice, 1, plan, rows);
            }
        }
    }

    /// Memory for the next token of a decoding choice, at the cost of younger ones if need be.
    fn hold(&mut self, now: Micros, id: JobId, choice: usize, out: &mut Vec<Effect>) -> bool {
        loop {
            let Some(job) = self.jobs.get_mut(&id) else {
                return false;
            };
            if !is_decoding(job, choice) {
                return false; // an older one has just taken its memory
            }
            let len = job.choices[choice].seq.len();
            if job.choices[choice]
                .seq
                .extend(&mut self.pool, &mut job.spare, len)
            {
                return true;
            }
            if !self.make_room(id, choice) {
                self.starve(now, id, choice, out);
                return false;
            }
        }
    }

    /// Fills the budget with prompt chunks; says which choice found no memory first.
    fn add_chunks(
        &mut self,
        budget: &mut u32,
        plan: &mut StepPlan,
        rows: &mut Vec<RowOf>,
    ) -> Option<(JobId, usize)> {
        let mut blocked = None;
        for candidate in self.candidates() {
            if *budget == 0 || rows.len() >= self.config.rows_max {
                break;
            }
            let room = (*budget).min(self.config.chunk_tokens_max);
            match candidate.who {
                Who::Choice(id, choice) => match self.chunk_of_choice(id, choice, room) {
                    Some(tokens) => {
                        *budget -= tokens;
                        self.add_choice_row(id, choice, tokens, plan, rows);
                    }
                    None => blocked = blocked.or(Some((id, choice))),
                },
                Who::Source(ticket) => {
                    *budget -= self.add_source_row(ticket, room, plan, rows);
                }
            }
        }
        blocked
    }

    /// Prompts that are not computed, in the order in which they get chunks.
    fn candidates(&self) -> Vec<Candidate> {
        let order = |spec: &RequestSpec, since: Micros, pending: u32| {
            let predicted = AGEING * f64::from(self.pass.e) * f64::from(pending);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time"
            )]
            let key = since.0.saturating_add(predicted as u64);
            (-i16::from(spec.priority), key)
        };
        let choices = self.jobs.iter().flat_map(|(id, job)| {
            job.alive()
                .filter(|c| is_prefilling(job, *c))
                .map(|c| Candidate {
                    order: order(
                        &job.spec,
                        job.span.since,
                        target(job, c) - job.choices[c].seq.computed,
                    ),
                    who: Who::Choice(*id, c),
                })
        });
        let sources = self
            .sources
            .iter()
            .filter(|(_, s)| !s.computed)
            .map(|(t, s)| Candidate {
                order: order(&s.spec, s.span.since, s.seq.pending()),
                who: Who::Source(*t),
            });
        let mut all: Vec<Candidate> = choices.chain(sources).collect();
        all.sort_by_key(|c| (c.order, c.who));
        all
    }

    /// Tokens of the next chunk of a choice, with memory for them.
    fn chunk_of_choice(&mut self, id: JobId, choice: usize, room: u32) -> Option<u32> {
        let job = self.jobs.get_mut(&id)?;
        let target = target(job, choice);
        let seq = &mut job.choices[choice].seq;
        let tokens = (target - seq.computed).min(room);
        seq.extend(&mut self.pool, &mut job.spare, seq.computed + tokens)
            .then_some(tokens)
    }

    /// Predicted time of a step, in microseconds (PLACEMENT section 3).
    fn predict(&self, plan: &StepPlan) -> f32 {
        let pass = self.pass;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (decodes, context, tokens) =
            plan.rows.iter().fold((0.0, 0.0, 0.0), |(b, c, n), row| {
                if row.tokens.len() == 1 {
                    (b + 1.0, c + row.start as f32, n)
                } else {
                    (b, c, n + row.tokens.len() as f32)
                }
            });
        pass.a + pass.c * decodes + pass.d * context / 1000.0 + pass.e * tokens
    }

    /// One scale factor for the whole pass model: a slow node costs more everywhere.
    fn learn(&mut self, predicted_us: f32, elapsed_us: u64) {
        if predicted_us <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let ratio = (elapsed_us as f32 / predicted_us).clamp(SCALE_BOUNDS.0, SCALE_BOUNDS.1);
        let factor = 1.0 + SCALE_STEP * (ratio - 1.0);
        for constant in [
            &mut self.pass.a,
            &mut self.pass.c,
            &mut self.pass.d,
            &mut self.pass.e,
        ] {
            *constant *= factor;
        }
    }

    pub(super) fn stepped(&mut self, now: Micros, result: StepResult, out: &mut Vec<Effect>) {
        let Some(running) = self.running.take_if(|r| r.number == result.number) else {
            self.counters.stale += 1;
            return;
        };
        self.learn(running.predicted_us, result.elapsed_us);
        self.leave_limbo(running.number);
        for (row, drawn) in running.rows.into_iter().zip(result.rows) {
            match row.who {
                Who::Choice(id, choice) => {
                    self.choice_stepped(now, id, choice, row.end, drawn, out)
                }
                Who::Source(ticket) => {
                    let Some(source) = self.sources.get_mut(&ticket) else {
                        continue;
                    };
                    source.seq.advance(&mut self.pool, row.end);
                    if source.seq.pending() == 0 {
                        self.source_computed(now, ticket, drawn, out);
                    } else {
                        self.offer_ready(now, ticket, out);
                    }
                }
            }
        }
    }

    fn choice_stepped(
        &mut self,
        now: Micros,
        id: JobId,
        choice: usize,
        end: u32,
        drawn: Vec<crate::batch::Drawn>,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.choices[choice].state != ChoiceState::Ready {
            return;
        }
        job.choices[choice].seq.advance(&mut self.pool, end);
        match job.fork_at {
            Some(at) if choice == job.lead => {
                if end < at {
                    return;
                }
                let drawing: Vec<usize> = job.alive().filter(|c| job.output_len(*c) == 0).collect();
                self.fork(id);
                for (choice, drawn) in drawing.into_iter().zip(drawn) {
                    self.token(now, id, choice, drawn, out);
                }
            }
            Some(_) | None => {
                for drawn in drawn {
                    self.token(now, id, choice, drawn, out);
                }
            }
        }
    }

    pub(super) fn step_failed(&mut self, now: Micros, number: u64, out: &mut Vec<Effect>) {
        let Some(running) = self.running.take_if(|r| r.number == number) else {
            self.counters.stale += 1;
            return;
        };
        self.counters.step_failures += 1;
        self.leave_limbo(running.number);
        for row in running.rows {
            match row.who {
                Who::Choice(id, _) => self.fail_job(now, id, out),
                Who::Source(ticket) => self.fail_source(now, ticket, out),
            }
        }
    }
}

/// Where a choice's prefill ends: the shared prompt for a lead whose others wait, else all its ids.
pub(super) fn target(job: &Job, choice: usize) -> u32 {
    match job.fork_at {
        Some(at) if choice == job.lead => at,
        Some(_) | None => job.choices[choice].seq.len(),
    }
}

fn is_decoding(job: &Job, choice: usize) -> bool {
    let c = &job.choices[choice];
    let forking = job.fork_at.is_some() && choice == job.lead;
    c.state == ChoiceState::Ready && !forking && c.seq.pending() == 1 && job.output_len(choice) > 0
}

fn is_prefilling(job: &Job, choice: usize) -> bool {
    job.choices[choice].state == ChoiceState::Ready && !is_decoding(job, choice)
}

fn is_due_for_drill(job: &Job, choice: usize, after: u32) -> bool {
    let c = &job.choices[choice];
    !c.drilled
        && job.fork_at.is_none()
        && c.state == ChoiceState::Ready
        && job.output_len(choice) >= after
}
