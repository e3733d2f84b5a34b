//! A request on its decode worker, from the promise to the confirmed end.
//!
//! A job holds what its choices share; each choice has its own sequence. It never talks to anybody by
//! itself: the worker reads its state and sends.

use std::{collections::BTreeMap, sync::Arc};

use bus_schemas::{
    Attempt, ChoiceEnd, EndReason, Item, NodeRef, Placement, Record, RequestId, RequestSpec,
    Sampling, Ticket,
    messages::{Offer, SlotRef},
};

use super::{
    sequence::Sequence,
    stop::{Length, StopScan},
};
use crate::{
    batch::Drawn,
    core::Micros,
    fact::{Fact, Span, What},
};

/// Arrival number of a job: the order in which work is done.
pub(super) type JobId = u64;

/// What names a job to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobKey {
    pub(super) request: RequestId,
    pub(super) attempt: Attempt,
    pub(super) placement: Placement,
}

/// What a choice waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChoiceState {
    /// Blocks from a prefill worker, or the prompt of another choice.
    Blocked,
    /// A place in a step.
    Ready,
    /// Memory; it had some and gave it up.
    Preempted,
    /// Nothing any more.
    Ended,
}

/// One choice.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) index: u16,
    pub(super) state: ChoiceState,
    pub(super) seq: Sequence,
    pub(super) scan: StopScan,
    /// The preemption drill has been done.
    pub(super) drilled: bool,
}

/// The remote half of a prefill, as the decode worker sees it.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) ticket: Ticket,
    pub(super) peer: NodeRef,
    /// The prefill worker has said something.
    pub(super) answered: bool,
    pub(super) repeat_at: Micros,
    pub(super) repeat_us: u64,
    /// Unless answered by then, it is given up.
    pub(super) answer_by: Micros,
    pub(super) next_seq: u32,
    pub(super) offers: BTreeMap<u32, Offer>,
    pub(super) taking: Option<Taking>,
}

/// A take under way.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) take: u64,
    pub(super) offer: Offer,
    pub(super) slots: Vec<SlotRef>,
    /// The bytes are here, the answer to the release is not.
    pub(super) landed: bool,
    /// Given up (moving) or repeated (releasing) then.
    pub(super) timer: Micros,
}

/// The question to the router for another prefill worker, asked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Not asked.
    Never,
    /// Asked; answered by then or not at all.
    Until(Micros),
    /// Answered, or waited for in vain.
    Over,
}

/// A request here.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: JobKey,
    pub(super) gateway: NodeRef,
    pub(super) router: NodeRef,
    pub(super) spec: Arc<RequestSpec>,
    /// Of the spec: every draw holds it.
    pub(super) sampling: Arc<Sampling>,
    pub(super) prompt: Arc<[u32]>,
    pub(super) span: Span,
    pub(super) deadline: Micros,
    pub(super) bound: bool,
    /// `Promised`, or the last tokens, are repeated then.
    pub(super) repeat_at: Micros,
    pub(super) choices: Vec<Choice>,
    /// The choice that computes the prompt for all.
    pub(super) lead: usize,
    /// The others start from the lead's blocks once it has computed this many tokens.
    pub(super) fork_at: Option<u32>,
    pub(super) leg: Option<Leg>,
    pub(super) search: Search,
    /// Reserved and not used yet.
    pub(super) spare: Vec<SlotRef>,
    pub(super) cached_tokens: u32,
    pub(super) prefilled_by: Option<NodeRef>,
    /// Everything said in this attempt.
    pub(super) items: Vec<Item>,
    /// Items that have been put into a letter.
    pub(super) sent: usize,
    pub(super) failed: bool,
    /// Two owners died under it: nothing else is taken while it is here.
    pub(super) alone: bool,
}

impl Job {
    pub(super) fn is_done(&self) -> bool {
        self.failed || self.choices.iter().all(|c| c.state == ChoiceState::Ended)
    }

    pub(super) const fn fact(&self, now: Micros, what: What) -> Fact {
        self.span.fact(now, self.key.attempt, what)
    }

    pub(super) fn prompt_len(&self) -> u32 {
        u32::try_from(self.prompt.len()).expect("prompts are bounded by the context length")
    }

    /// Tokens that the lead must have computed before the others (or its own output) can start.
    pub(super) fn lead_target(&self) -> u32 {
        self.fork_at
            .unwrap_or_else(|| self.choices[self.lead].seq.len())
    }

    /// Output of a choice so far.
    pub(super) fn output_len(&self, choice: usize) -> u32 {
        self.choices[choice].seq.len() - self.prompt_len()
    }

    /// Limits of a choice that has so many tokens of output, in a context of `total_max`.
    pub(super) fn length(&self, output: u32, total_max: u32) -> Length {
        Length {
            output,
            output_max: self.spec.max_tokens,
            total: self.prompt_len() + output,
            total_max,
        }
    }

    /// Appends a token to a choice and to the log.
    pub(super) fn push_token(&mut self, choice: usize, drawn: Drawn) {
        let index = self.output_len(choice);
        let choice = &mut self.choices[choice];
        choice.seq.ids.push(drawn.id);
        let Drawn { id, logprob, top } = drawn;
        self.items.push(Item::Token(Record {
            choice: choice.index,
            index,
            id,
            logprob,
            top,
        }));
    }

    /// Writes the end of a choice into the log. Its sequence is the caller's to release.
    pub(super) fn push_end(&mut self, choice: usize, reason: EndReason) {
        let choice = &mut self.choices[choice];
        choice.state = ChoiceState::Ended;
        self.items.push(Item::End(ChoiceEnd {
            choice: choice.index,
            reason,
        }));
    }

    /// The lead has ended before the others could start from its blocks: another one takes its place.
    pub(super) fn next_lead(&mut self) {
        let Some(next) = self.alive().next() else {
            return;
        };
        let lead = std::mem::replace(&mut self.lead, next);
        let [from, to] = self
            .choices
            .get_disjoint_mut([lead, next])
            .expect("an ended lead is not among the living");
        from.seq.hand_over(&mut to.seq);
    }

    /// Whether what it has to say is neither a first token nor an end.
    pub(super) fn can_wait(&self) -> bool {
        let ends = |item: &Item| matches!(item, Item::End(_));
        self.sent > 0 && !self.items[self.sent..].iter().any(ends) && !self.failed
    }

    /// Choices that are not ended, in order.
    pub(super) fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.choices.len()).filter(|i| self.choices[*i].state != ChoiceState::Ended)
    }
}
