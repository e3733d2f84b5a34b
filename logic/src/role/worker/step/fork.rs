//! Several choices of one prompt: it is computed once, by the lead, and shared when it is there.
//!
//! A block that will be written to is never shared: the unsealed tail is copied.

use super::super::{
    Worker,
    job::{ChoiceState, JobId},
    sequence::next_block,
};

impl Worker {
    /// The prompt came from a prefill worker: the lead runs on, and the others start from its blocks.
    pub(in crate::role::worker) fn prompt_is_here(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let lead = job.lead;
        if job.choices[lead].state == ChoiceState::Blocked {
            job.choices[lead].state = ChoiceState::Ready;
        }
        if job
            .fork_at
            .is_some_and(|at| job.choices[lead].seq.computed >= at)
        {
            self.fork(id);
        }
    }

    /// Every other choice gets the lead's prompt: full blocks shared, the unsealed tail copied.
    pub(super) fn fork(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(at) = job.fork_at.take() else { return };
        let tail = (!at.is_multiple_of(self.config.block_tokens))
            .then(|| job.choices[job.lead].seq.table[(at / self.config.block_tokens) as usize]);
        let lead = job.lead;
        for choice in job.alive().filter(|c| *c != lead).collect::<Vec<_>>() {
            let copy = match tail {
                Some(tail) => match next_block(&mut self.pool, &mut job.spare) {
                    Some(slot) => Some((tail, slot)),
                    None => {
                        job.choices[choice].state = ChoiceState::Preempted;
                        self.counters.preemptions += 1;
                        continue;
                    }
                },
                None => None,
            };
            let [from, to] = job
                .choices
                .get_disjoint_mut([lead, choice])
                .expect("the lead is one of the choices and not this one");
            from.seq.share(&mut self.pool, &mut to.seq, at);
            if let Some((tail, slot)) = copy {
                to.seq.append(slot);
                to.seq.computed = at;
                self.copies.push((tail.slot, slot.slot));
            }
            to.state = ChoiceState::Ready;
        }
    }
}
