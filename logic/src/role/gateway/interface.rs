//! What goes into a gateway's core and what comes out: its configuration, inputs, effects, counters and snapshot.
//!
//! It holds no state and decides nothing.

use bus_schemas::{
    Meta, NodeRef, Outcome, RequestId, RequestSpec,
    messages::{AnyMessage, Intake},
    spec::Item,
};

use super::{OpenView, Outgoing};
use crate::{fact::Fact, member::Member};

/// What a gateway is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own name and epoch.
    pub me: NodeRef,
    /// Open requests beyond which it refuses: each costs some kilobytes here and a stream to a client.
    pub open_max: usize,
    /// How long a request that found everything full is tried again before the client hears it.
    pub patience_us: u64,
    /// Owners of one request that may die.
    pub migrations_max: u32,
    /// Where its admin port listens, for beats.
    pub admin: String,
}

/// What a gateway is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A door has a validated request.
    Submit {
        /// What to run.
        spec: RequestSpec,
        /// Time it may take.
        deadline_us: u64,
    },
    /// The client left, or somebody asked to end it.
    Cancel(RequestId),
    /// A letter arrived.
    Letter(Meta, AnyMessage),
    /// Nobody listens on that node's subject any more.
    Gone(NodeRef),
    /// The bus came up or went down.
    Link(bool),
    /// The process was frozen and runs again.
    Woke,
    /// Take nothing new.
    Drain,
}

/// What a gateway wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a letter.
    Send(Outgoing),
    /// Give these to the client, in order.
    Deliver {
        /// Whose.
        request: RequestId,
        /// Tokens and ends.
        items: Vec<Item>,
        /// Prompt tokens that were cached.
        cached_tokens: u32,
    },
    /// The request has its outcome; nothing follows.
    Ended {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Outcome,
        /// When to try again, for refusals.
        retry_after_ms: Option<u32>,
    },
    /// A holder confirmed that it has let go of what was cancelled.
    LetGo {
        /// Time since it was first told to.
        after_us: u64,
    },
    /// Ask that node's subject whether anybody is there.
    Probe(NodeRef),
    /// Models of live workers, with their card hash, sorted, without repeats: they have changed.
    Models(Vec<(String, u64)>),
    /// Something that a person may want to follow.
    Fact(Fact),
    /// The last request ended after `Drain`.
    Drained,
}

/// What a gateway has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests taken.
    pub admitted: u64,
    /// Requests refused at the door.
    pub refused: u64,
    /// Outcomes recorded.
    pub ended: u64,
    /// Owners lost while they ran a request.
    pub owners_lost: u64,
    /// Letters that were old, strange or not for us.
    pub stale: u64,
    /// Times a gap in the tokens was asked for again.
    pub gaps: u64,
}

/// What admin and metrics see.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Requests without outcome.
    pub open: Vec<OpenView>,
    /// Cancels not yet confirmed.
    pub cancels: usize,
    /// Nodes it hears, itself among them.
    pub nodes: Vec<Member>,
    /// Models of live workers with their card hash, sorted, without repeats.
    pub models: Vec<(String, u64)>,
    /// Counters.
    pub counters: Counters,
    /// Whether it takes requests.
    pub intake: Intake,
}
