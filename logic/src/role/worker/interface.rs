//! What goes into a worker's core and what comes out: its configuration, inputs, effects and counters.
//!
//! It holds no state and decides nothing.

use std::sync::Arc;

use bus_schemas::{
    Meta, NodeRef, RequestId, Roles, Ticket,
    messages::{AnyMessage, Pass, SlotRef},
};

use super::Outgoing;
use crate::{
    batch::{StepPlan, StepResult},
    fact::Fact,
    text::Vocabulary,
};

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own name and epoch.
    pub me: NodeRef,
    /// Prefill, decode or both.
    pub roles: Roles,
    /// Name of the model it serves.
    pub model: String,
    /// Hash of the model's card.
    pub card: u64,
    /// Blocks of its pool.
    pub slots: u32,
    /// Blocks on which operations of an earlier epoch are outstanding.
    pub quarantined: Vec<u32>,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Longest sequence.
    pub context_tokens: u32,
    /// Bytes of tokens, end ids.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// How peers reach its memory.
    pub fabric: Vec<u8>,
    /// Where its admin port listens.
    pub admin: String,
    /// Tokens of one step, decoding rows and prompt chunks together.
    pub step_tokens_max: u32,
    /// Tokens of one prompt chunk.
    pub chunk_tokens_max: u32,
    /// Rows of one step.
    pub rows_max: usize,
    /// Requests held at once, of each side.
    pub jobs_max: usize,
    /// Output expected of a request before any was observed, in tokens.
    pub expected_output: u32,
    /// A drill: preempt each choice once after this many output tokens.
    pub drill_preempt_after: Option<u32>,
    /// First guess of the pass model.
    pub pass: Pass,
    /// Key under which tickets are made.
    pub secret: [u8; 32],
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A letter arrived.
    Letter(Meta, AnyMessage),
    /// The engine finished a step.
    Stepped(StepResult),
    /// The engine could not run the step; it is usable.
    StepFailed {
        /// The plan's number.
        number: u64,
    },
    /// Bytes of a take arrived.
    TakeProgress(u64),
    /// A take ended.
    Taken {
        /// Which.
        take: u64,
        /// Every byte is where it should be.
        landed: bool,
    },
    /// No operation of that take is outstanding.
    Settled(u64),
    /// Peers to which the fabric finds no lane.
    Unreachable(Vec<NodeRef>),
    /// Nobody listens on that node's subject any more.
    Gone(NodeRef),
    /// The bus came up or went down.
    Link(bool),
    /// The process was frozen and runs again.
    Woke,
    /// Take nothing new, or take again.
    Cordon(bool),
    /// Take nothing new, finish what can be finished in this time, say so.
    Drain {
        /// Microseconds.
        within_us: u64,
    },
    /// End a request here without asking; its gateway will go on elsewhere.
    Evict(RequestId),
}

/// What a worker wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a letter.
    Send(Outgoing),
    /// Run a step; the answer is `Stepped` or `StepFailed`.
    Step(StepPlan),
    /// Read a peer's blocks; the answers are `Taken`, then `Settled`.
    Take {
        /// Names the take.
        take: u64,
        /// The right to do it.
        ticket: Ticket,
        /// Which offer.
        seq: u32,
        /// Whose blocks.
        owner: NodeRef,
        /// From where, to where.
        pieces: Vec<(SlotRef, SlotRef)>,
    },
    /// Give a take up.
    CancelTake(u64),
    /// Let the holder of a ticket read blocks.
    Export {
        /// The right.
        ticket: Ticket,
        /// Which offer.
        seq: u32,
        /// For whom.
        audience: NodeRef,
        /// Which blocks.
        slots: Vec<SlotRef>,
    },
    /// Nobody may read under this ticket any more.
    Revoke(Ticket),
    /// A peer's way to its memory.
    KnowPeer {
        /// Who.
        peer: NodeRef,
        /// Its card.
        card: Vec<u8>,
    },
    /// A peer is gone.
    ForgetPeer(NodeRef),
    /// Ask that node's subject whether anybody is there.
    Probe(NodeRef),
    /// Something about a request that a person may want to follow.
    Fact(Fact),
    /// All is done that could be done after `Drain`.
    Drained,
}

/// What a worker has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reservations promised.
    pub promised: u64,
    /// Reservations refused.
    pub refused: u64,
    /// Engine steps.
    pub steps: u64,
    /// Prompt tokens run through the engine.
    pub prefilled_tokens: u64,
    /// Rows that were only a part of a prompt.
    pub chunks: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Tokens drawn.
    pub generated_tokens: u64,
    /// Choices that gave their memory up to others (or to the drill).
    pub preemptions: u64,
    /// Blocks taken from peers and sealed or filled.
    pub blocks_taken: u64,
    /// Blocks offered to peers.
    pub blocks_offered: u64,
    /// Remote prefills that ended in prefilling here.
    pub fallbacks: u64,
    /// Remote prefills asked of a second worker because the first refused.
    pub asked_again: u64,
    /// Requests given up: gateway lost, cancelled, deadline.
    pub let_go: u64,
    /// Letters that were old, strange or not for us.
    pub stale: u64,
    /// Steps that the engine refused.
    pub step_failures: u64,
}
