//! Blocks that cannot be given back yet, and how memory is found when there is none.
//!
//! A running step may read and write the blocks of rows that were cancelled meanwhile, and a pending copy
//! reads its source: such sequences wait in limbo until the step that uses them is over.

use bus_schemas::{EndReason, messages::SlotRef};

use super::{
    Effect, Worker,
    job::{ChoiceState, JobId},
    sequence::Sequence,
    step::target,
};
use crate::core::Micros;

/// Sequences whose blocks are still in use by a step, and the step after which they are not.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    rows: Vec<(u64, Sequence)>,
}

impl Limbo {
    pub(super) fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.rows.iter().map(|(_, s)| s)
    }
}

impl Worker {
    /// Gives a sequence's blocks back as soon as no step uses them.
    pub(super) fn retire(&mut self, mut seq: Sequence) {
        let last_use = if self.copies.is_empty() {
            self.running.as_ref().map(|r| r.number)
        } else {
            Some(self.next_step)
        };
        match last_use {
            Some(number) => self.limbo.rows.push((number, seq)),
            None => seq.release(&mut self.pool),
        }
    }

    /// A step is over: what waited for it goes back.
    pub(super) fn leave_limbo(&mut self, number: u64) {
        let (over, waiting) = std::mem::take(&mut self.limbo.rows)
            .into_iter()
            .partition(|(n, _)| *n <= number);
        self.limbo.rows = waiting;
        let over: Vec<(u64, Sequence)> = over;
        for (_, mut seq) in over {
            seq.release(&mut self.pool);
        }
    }

    pub(super) fn free_all(&mut self, slots: Vec<SlotRef>) {
        for slot in slots {
            self.pool.free(slot);
        }
    }

    /// Takes a choice's memory. No step is running.
    pub(super) fn preempt(&mut self, id: JobId, choice: usize) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let choice = &mut job.choices[choice];
        choice.state = ChoiceState::Preempted;
        let fresh = choice.seq.successor();
        let old = std::mem::replace(&mut choice.seq, fresh);
        self.counters.preemptions += 1;
        self.retire(old);
    }

    /// Finds memory for a choice by preempting a younger one; false if there is none that is younger.
    pub(super) fn make_room(&mut self, id: JobId, choice: usize) -> bool {
        let victim = self
            .jobs
            .iter()
            .rev()
            .take_while(|(v, _)| **v >= id)
            .find_map(|(v, job)| {
                let from = if *v == id { choice + 1 } else { 0 };
                (from..job.choices.len())
                    .rev()
                    .find(|c| {
                        let c = &job.choices[*c];
                        c.state == ChoiceState::Ready && !c.seq.table.is_empty()
                    })
                    .map(|c| (*v, c))
            });
        match victim {
            Some((victim, victim_choice)) => {
                self.preempt(victim, victim_choice);
                true
            }
            None => false,
        }
    }

    /// No memory for this choice and nobody younger to take it from: it waits, or, if it alone has all there is, ends.
    pub(super) fn starve(&mut self, now: Micros, id: JobId, choice: usize, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let mine = job.choices[choice].seq.table.len() + job.spare.len();
        let counts = self.pool.counts();
        let elsewhere = (counts.reserved + counts.filling + counts.sealed) as usize > mine;
        if elsewhere || job.output_len(choice) == 0 {
            self.preempt(id, choice);
        } else {
            self.end_choice(now, id, choice, EndReason::Length, out);
        }
    }

    /// Puts preempted choices back to work, oldest first, while there is memory for their tokens and one block more.
    pub(super) fn resume_preempted(&mut self) {
        let waiting: Vec<(JobId, usize)> = self
            .jobs
            .iter()
            .flat_map(|(id, job)| {
                job.alive()
                    .filter(|c| job.choices[*c].state == ChoiceState::Preempted)
                    .map(|c| (*id, c))
            })
            .collect();
        for (id, choice) in waiting {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let target = target(job, choice);
            let choice = &mut job.choices[choice];
            choice.seq.attach_cached(&mut self.pool, target);
            let wanted = choice.seq.lacking(choice.seq.len()) + 1;
            if wanted > self.pool.available() as usize + job.spare.len() {
                choice.seq.release(&mut self.pool);
                return;
            }
            choice.state = ChoiceState::Ready;
        }
    }
}
