//! What admin, metrics and checkers see of a worker, and the audit of its memory.
//!
//! The audit counts every block from the side of its users and compares with the pool; it changes nothing.

use bus_schemas::{
    Attempt, NodeRef, Placement, RequestId, Roles,
    messages::{Intake, Load},
};

use super::{Counters, Worker, sequence::Sequence};
use crate::{
    core::Micros,
    kv::{self, Counts},
    member::Member,
};

/// A request on a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// The request.
    pub request: RequestId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The placement under which it is here.
    pub placement: Placement,
    /// Whose it is.
    pub gateway: NodeRef,
    /// The gateway has answered the promise.
    pub bound: bool,
    /// Every choice has ended; the gateway has not confirmed yet.
    pub done: bool,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Output tokens of each choice.
    pub output_tokens: Vec<u32>,
    /// Prompt tokens that were cached.
    pub cached_tokens: u32,
    /// Who prefilled it, unless this worker did.
    pub prefilled_by: Option<NodeRef>,
    /// Blocks it holds, shared ones counted once per choice.
    pub blocks: usize,
    /// When it was promised, on this worker's clock.
    pub since: Micros,
    /// When it is let go, on this worker's clock.
    pub deadline: Micros,
}

/// A prompt computed for another worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// The request.
    pub request: RequestId,
    /// Who may take its blocks.
    pub audience: NodeRef,
    /// Tokens.
    pub tokens: u32,
    /// Of these, computed or cached.
    pub computed: u32,
    /// Blocks it holds.
    pub blocks: usize,
}

/// Pools up to this size are walked at every look. Metrics look each second, and a walk of a large pool holds up all
/// who decode: a million blocks take half a second.
const LOOKED_AT_SLOTS: u32 = 4096;

/// The pool's books against its users'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Blocks in each state.
    pub counts: Counts,
    /// Blocks held by requests here, unsealed ones.
    pub held_open: usize,
    /// Blocks held for others, in limbo or in a take.
    pub held_elsewhere: usize,
    /// What does not add up; none is the only good answer. Of a large pool only the sums are looked at.
    pub fault: Option<String>,
}

/// A worker's state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Who it is.
    pub me: NodeRef,
    /// What it does.
    pub roles: Roles,
    /// Its model.
    pub model: String,
    /// Whether it takes requests.
    pub intake: Intake,
    /// Requests it owns or has promised.
    pub jobs: Vec<JobView>,
    /// Prompts it computes for others.
    pub sources: Vec<SourceView>,
    /// How busy it is.
    pub load: Load,
    /// Its memory.
    pub audit: Audit,
    /// What it has counted.
    pub counters: Counters,
    /// Nodes it hears, itself among them.
    pub nodes: Vec<Member>,
}

impl Worker {
    pub(super) fn view(&self) -> Snapshot {
        Snapshot {
            me: self.config.me,
            roles: self.config.roles,
            model: self.config.model.clone(),
            intake: self.intake,
            jobs: self.jobs.values().map(job_view).collect(),
            sources: self
                .sources
                .values()
                .map(|s| SourceView {
                    request: s.request,
                    audience: s.audience,
                    tokens: s.seq.len(),
                    computed: s.seq.computed,
                    blocks: s.seq.table.len() + s.spare.len(),
                })
                .collect(),
            load: self.load(),
            audit: self.audit(self.config.slots <= LOOKED_AT_SLOTS),
            counters: self.counters,
            nodes: self.members.iter().cloned().collect(),
        }
    }

    /// Compares the pool with everything that holds blocks; `whole` walks all of its blocks too.
    pub(super) fn audit(&self, whole: bool) -> Audit {
        let counts = self.pool.counts();
        let sequences = || {
            let choices = self
                .jobs
                .values()
                .flat_map(|j| j.choices.iter().map(|c| &c.seq));
            let sources = self.sources.values().map(|s| &s.seq);
            let held = self
                .ended_tickets
                .values()
                .filter_map(|t| t.held().map(|(seq, _)| seq));
            choices
                .chain(sources)
                .chain(held)
                .chain(self.limbo.sequences())
        };
        let held_open: usize = sequences().map(open_blocks).sum();
        let spare = self.jobs.values().map(|j| j.spare.len()).sum::<usize>()
            + self.sources.values().map(|s| s.spare.len()).sum::<usize>()
            + self
                .ended_tickets
                .values()
                .filter_map(|t| t.held().map(|(_, s)| s.len()))
                .sum::<usize>();
        let taking: usize = self
            .jobs
            .values()
            .filter_map(|j| j.leg.as_ref()?.taking.as_ref())
            .map(|t| t.slots.len())
            .sum();
        let pinned: usize = sequences().map(Sequence::sealed).sum();
        let quarantined: usize = self.unsettled.values().map(Vec::len).sum();
        let walked = whole.then(|| kv::check(&self.pool).err());
        let mut fault = walked.flatten().map(|e| e.to_string());
        let users = held_open + spare + taking;
        let pool = (counts.reserved + counts.filling) as usize;
        if users != pool {
            fault.get_or_insert(format!(
                "users hold {users} open blocks, the pool has {pool}"
            ));
        }
        if (counts.sealed as usize) > pinned {
            fault.get_or_insert(format!(
                "{} blocks are pinned by {pinned} users",
                counts.sealed
            ));
        }
        let inherited = self.config.quarantined.len();
        if (counts.quarantined as usize) > quarantined + inherited {
            fault.get_or_insert(format!(
                "{} blocks in quarantine, {quarantined} awaited",
                counts.quarantined
            ));
        }
        Audit {
            counts,
            held_open,
            held_elsewhere: spare + taking,
            fault,
        }
    }
}

fn open_blocks(seq: &Sequence) -> usize {
    seq.table.len() - seq.sealed()
}

fn job_view(job: &super::job::Job) -> JobView {
    JobView {
        request: job.key.request,
        attempt: job.key.attempt,
        placement: job.key.placement,
        gateway: job.gateway,
        bound: job.bound,
        done: job.is_done(),
        prompt_tokens: job.prompt_len(),
        output_tokens: (0..job.choices.len()).map(|c| job.output_len(c)).collect(),
        cached_tokens: job.cached_tokens,
        prefilled_by: job.prefilled_by,
        blocks: job.choices.iter().map(|c| c.seq.table.len()).sum::<usize>() + job.spare.len(),
        since: job.span.since,
        deadline: job.deadline,
    }
}
