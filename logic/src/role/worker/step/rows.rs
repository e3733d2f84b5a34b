//! The rows of a step: which tokens, into which blocks, and what is drawn after them.
//!
//! It chooses nothing: whose row comes next, and with how many tokens, is decided in [`super`].

use std::sync::Arc;

use bus_schemas::{RequestSpec, Sampling, Ticket};

use super::{
    super::{Worker, job::JobId},
    RowOf, Who, target,
};
use crate::batch::{Draw, History, Row, StepPlan};

impl Worker {
    pub(super) fn add_choice_row(
        &mut self,
        id: JobId,
        choice: usize,
        tokens: u32,
        plan: &mut StepPlan,
        rows: &mut Vec<RowOf>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let seq = &job.choices[choice].seq;
        let end = seq.computed + tokens;
        let last = end == target(job, choice);
        let how = How {
            spec: &job.spec,
            sampling: &job.sampling,
            prompt: &job.prompt,
        };
        let draw = |c: usize| self.draw(how, &job.choices[c].seq.ids, job.choices[c].index);
        let draws = match (last, job.fork_at) {
            (false, _) => Vec::new(),
            (true, Some(_)) => {
                let first = job.alive().filter(|c| job.output_len(*c) == 0);
                first.map(draw).collect()
            }
            (true, None) => vec![draw(choice)],
        };
        let row = Row {
            start: seq.computed,
            tokens: seq.ids[seq.computed as usize..end as usize].to_vec(),
            blocks: seq.slots(),
            draws,
        };
        let prompt_part = job.prompt_len().saturating_sub(seq.computed).min(tokens);
        self.counters.prefilled_tokens += u64::from(prompt_part);
        self.counters.chunks += u64::from(!last);
        plan.rows.push(row);
        rows.push(RowOf {
            who: Who::Choice(id, choice),
            end,
        });
    }

    pub(super) fn add_source_row(
        &mut self,
        ticket: Ticket,
        room: u32,
        plan: &mut StepPlan,
        rows: &mut Vec<RowOf>,
    ) -> u32 {
        let Some(source) = self.sources.get_mut(&ticket) else {
            return 0;
        };
        let tokens = source.seq.pending().min(room);
        let end = source.seq.computed + tokens;
        let held = source.seq.extend(&mut self.pool, &mut source.spare, end);
        debug_assert!(held, "a source has all its blocks reserved");
        let last = end == source.seq.len();
        let Some(source) = self.sources.get(&ticket) else {
            return 0;
        };
        let how = How {
            spec: &source.spec,
            sampling: &source.sampling,
            prompt: &source.prompt,
        };
        let due = source.draws.iter().filter(|_| last);
        let draws = due
            .map(|(choice, _)| self.draw(how, &source.seq.ids, *choice))
            .collect();
        plan.rows.push(Row {
            start: source.seq.computed,
            tokens: source.seq.ids[source.seq.computed as usize..end as usize].to_vec(),
            blocks: source.seq.slots(),
            draws,
        });
        self.counters.prefilled_tokens += u64::from(tokens);
        self.counters.chunks += u64::from(!last);
        rows.push(RowOf {
            who: Who::Source(ticket),
            end,
        });
        tokens
    }

    /// How the token after `ids` is drawn.
    fn draw(&self, how: How<'_>, ids: &[u32], choice: u16) -> Draw {
        let How {
            spec,
            sampling,
            prompt,
        } = how;
        let output = &ids[prompt.len()..];
        let early = output.len() < spec.stops.min_tokens as usize;
        let banned: Arc<[u32]> = if early {
            let ends = self.config.vocabulary.end_ids().iter();
            ends.chain(&spec.stops.ids).copied().collect()
        } else {
            Arc::default()
        };
        let history = sampling.needs_history().then(|| History {
            prompt: prompt.clone(),
            output: output.to_vec(),
        });
        Draw {
            choice,
            position: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            sampling: sampling.clone(),
            history,
            banned,
        }
    }
}

/// What the draws of one request have in common.
#[derive(Clone, Copy)]
struct How<'a> {
    spec: &'a RequestSpec,
    sampling: &'a Arc<Sampling>,
    prompt: &'a Arc<[u32]>,
}
