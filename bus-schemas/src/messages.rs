//! Every internal message, grouped by direction. One doc line each: who sends it, when, to whom.
//!
//! No message carries an address, a clock reading or an error text of another system.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{
    envelope::{Kind, Letter, Message, Meta},
    ids::{Attempt, NodeRef, Placement, RequestId, Roles, Ticket},
    spec::{Item, Record, RefuseReason, RequestSpec},
};

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
            pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

            impl Message for $name { const KIND: Kind = Kind::$name; }
        )*

        /// Any message, decoded. One arm per kind.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "each arm is documented at its struct")]
        pub enum AnyMessage { $($name($name),)* }

        impl AnyMessage {
            /// Decodes whatever the header says it is.
            ///
            /// # Errors
            /// Any [`crate::DecodeError`].
            pub fn decode(bytes: &[u8]) -> Result<(Meta, Self), crate::DecodeError> {
                Ok(match crate::peek(bytes)? {
                    $(Kind::$name => {
                        let letter = crate::decode::<$name>(bytes)?;
                        (letter.meta, Self::$name(letter.body))
                    })*
                })
            }

            /// Encodes it under `meta`.
            #[must_use]
            pub fn encode(self, meta: Meta) -> bytes::Bytes {
                match self { $(Self::$name(body) => crate::encode(&Letter { meta, body }),)* }
            }

            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }
        }

        $(impl From<$name> for AnyMessage {
            fn from(body: $name) -> Self { Self::$name(body) }
        })*
    };
}

messages! {
    // Gateway and router.

    /// Gateway to a router, when an attempt starts and again, as the next attempt, while nothing is bound.
    Admit {
        /// The request, whole: the router hashes it, the worker runs it.
        spec: RequestSpec,
        /// Ids already given to the client, per choice; empty at first.
        emitted: Vec<Vec<u32>>,
        /// Choices that have ended already and must not run again.
        ended: Vec<u16>,
        /// Incarnations not to use again.
        avoid: Vec<NodeRef>,
        /// Two owners of this request died: give it a worker of its own.
        alone: bool,
    }
    /// Router to gateway: nothing fits, nothing lives, or it drains.
    Rejected {
        /// Why.
        reason: RefuseReason,
        /// When to try again, from the queue's drain rate.
        retry_after_ms: u32,
    }
    /// Router to gateway: the owner that it placed seems to be gone. Only a hint.
    Orphaned {
        /// Who is gone.
        owner: NodeRef,
    }

    // Router, decode, gateway.

    /// Router to decode: promise memory for this request and answer the gateway.
    Reserve {
        /// Which of the router's tries this is.
        placement: Placement,
        /// Whose request it is: where `Promised` and `Tokens` go.
        gateway: NodeRef,
        /// Who shall prefill; none means the decode worker does it itself.
        prefill: Option<NodeRef>,
        /// The admission, as the gateway sent it.
        admit: Admit,
    }
    /// Decode to gateway and router: blocks for the prompt and the expected output are yours. Repeated to the gateway until answered.
    Promised {
        /// Answers which `Reserve`.
        placement: Placement,
        /// The router that asked, so that the gateway's log can name it.
        router: NodeRef,
        /// Blocks reserved.
        blocks: u32,
    }
    /// Decode to router: no. The router places again.
    Refused {
        /// Answers which `Reserve`.
        placement: Placement,
        /// Why.
        reason: RefuseReason,
    }
    /// Gateway to decode: you own this attempt. Answers `Promised`, each time it is repeated.
    Bound {
        /// The promise that is meant.
        placement: Placement,
    }
    /// Gateway to decode: let go of that placement. Repeated until its end is confirmed.
    Cancel {
        /// The promise that is meant.
        placement: Placement,
    }

    // Decode and gateway.

    /// Decode to gateway, at most once per engine step and gateway: what each of its requests yielded.
    Tokens {
        /// One entry per request.
        streams: Vec<Stream>,
    }
    /// Gateway to decode: I have all before `from`, say the rest again. Counts as `Bound`.
    AskTokens {
        /// The promise that is meant.
        placement: Placement,
        /// First item wanted.
        from: u32,
    }
    /// Gateway to decode: the last item arrived and the outcome is recorded; forget the request.
    Confirm {
        /// The promise that is meant.
        placement: Placement,
    }
    /// Decode to gateway: asked about a placement that it does not hold. Means orphaned.
    Unknown {
        /// The promise that was asked about.
        placement: Placement,
    }

    // Decode and prefill.

    /// Decode to prefill: compute this and offer the blocks from `from_block` on. Repeated until answered.
    Prefill {
        /// The right to take what is offered.
        ticket: Ticket,
        /// The request; `spec.prompt` is the prompt alone.
        spec: RequestSpec,
        /// Ids generated before, per choice.
        emitted: Vec<Vec<u32>>,
        /// Choices that have ended.
        ended: Vec<u16>,
        /// First block that the decode worker lacks.
        from_block: u32,
    }
    /// Prefill to decode: will not do it.
    PrefillRefused {
        /// Which ticket.
        ticket: Ticket,
        /// Why.
        reason: RefuseReason,
    }
    /// Decode to router, once per placement: the prefill worker that you chose refused; who else?
    FindPrefill {
        /// The promise that is meant.
        placement: Placement,
        /// Incarnations not to use: who refused.
        avoid: Vec<NodeRef>,
        /// Tokens to be computed or found in a cache.
        tokens: u32,
        /// Tokens of output that may follow.
        output: u32,
        /// Sequence hashes of the whole blocks of those tokens.
        hashes: Vec<u64>,
    }
    /// Router to decode: ask that one, or do it yourself.
    PrefillFound {
        /// Answers which `FindPrefill`.
        placement: Placement,
        /// Who shall prefill; none means the decode worker does it itself.
        prefill: Option<NodeRef>,
    }
    /// Prefill to decode: these blocks are ready to be taken. Repeated until released or the ticket ends.
    Offer {
        /// Under which ticket.
        ticket: Ticket,
        /// Counts the offers of a ticket from 0.
        seq: u32,
        /// Place of the first block in the sequence.
        first_block: u32,
        /// Slot and generation of each block in the sender's region.
        blocks: Vec<SlotRef>,
        /// Tokens whose keys and values these and all earlier blocks hold.
        tokens: u32,
        /// Prompt tokens that were cached here.
        cached_tokens: u32,
        /// With the last offer: the first token of each choice, already drawn. Empty before, and where the receiver must draw.
        first_tokens: Vec<Record>,
        /// No offer follows.
        last: bool,
    }
    /// Decode to prefill: I have read that offer; was it valid until now? Repeated until answered.
    Release {
        /// Under which ticket.
        ticket: Ticket,
        /// Which offer.
        seq: u32,
        /// Names the read, so that only its own answer counts.
        take: u64,
    }
    /// Prefill to decode: the answer, the same to every repeat.
    Released {
        /// Under which ticket.
        ticket: Ticket,
        /// Which offer.
        seq: u32,
        /// Which read.
        take: u64,
        /// The blocks held what was offered during the whole read.
        valid: bool,
    }
    /// Decode to prefill or back: this ticket has ended, let go.
    Abort {
        /// Which ticket.
        ticket: Ticket,
    }

    // Everybody.

    /// Node to everybody, every 250 ms.
    Beat {
        /// What it does.
        roles: Roles,
        /// Name of the model it serves; empty for routers and gateways.
        model: String,
        /// Hash of the model's card: workers of one pool must agree. 0 for routers.
        card: u64,
        /// Takes nothing new, and why.
        intake: Intake,
        /// Number of the last notice it sent.
        notice: u64,
        /// How busy it is.
        load: Load,
        /// How to reach its memory: opaque to all but the fabric; empty for routers and gateways.
        fabric: Vec<u8>,
        /// Hosts to which its fabric found no way.
        unreachable: Vec<NodeRef>,
        /// Where its admin port listens, for `ctl`; empty if nowhere.
        admin: String,
    }
    /// Worker to routers: what changed, in order, numbered without gaps.
    Notice {
        /// Number of the first change.
        first: u64,
        /// The changes.
        changes: Vec<Change>,
    }
    /// Router to worker: I missed a change.
    SnapshotAsk {}
    /// Worker to router: one part of everything it has.
    SnapshotPart {
        /// State after this number.
        number: u64,
        /// Which part, from 0.
        part: u32,
        /// How many there are.
        parts: u32,
        /// Sequence hashes of its sealed and cached blocks.
        blocks: Vec<u64>,
    }
}

/// A block of the sender's region: which, and which use of it.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct SlotRef {
    /// Index in the region.
    pub slot: u32,
    /// Raised each time the slot is reserved.
    pub generation: u32,
}

/// Items of one placement, from number `first` of its attempt on.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Stream {
    /// The request.
    pub request: RequestId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The promise under which the items were made.
    pub placement: Placement,
    /// Number of the first item in this attempt.
    pub first: u32,
    /// Tokens and ends; may be empty in an answer to `AskTokens`.
    pub items: Vec<Item>,
    /// Prompt tokens that no engine had to compute for this attempt.
    pub cached_tokens: u32,
    /// Nothing follows: every choice has ended, or the engine failed.
    pub last: bool,
    /// The engine failed on it.
    pub failed: bool,
}

/// Whether a node takes new requests.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Intake {
    /// Yes.
    #[default]
    Open,
    /// An operator said no; what runs goes on.
    Cordoned,
    /// It finishes what it has and leaves.
    Draining,
}

/// How busy a worker is, in its own words. All zero for routers and gateways.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Default)]
pub struct Load {
    /// Choices in the running batch.
    pub running: u32,
    /// Choices that wait for memory or a place in the batch.
    pub waiting: u32,
    /// Tokens of context over all running choices.
    pub context_tokens: u64,
    /// Prompt tokens not yet computed, over all requests here.
    pub queued_prefill_tokens: u64,
    /// Blocks of the pool.
    pub blocks_total: u32,
    /// Blocks that are free or cached without a user.
    pub blocks_free: u32,
    /// Blocks that hold something reusable.
    pub blocks_cached: u32,
    /// Blocks kept from use until every operation on them came back.
    pub blocks_quarantined: u32,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Constants of its pass model, in microseconds: `a + c*B + d*ctx/1000 + e*n` (PLACEMENT section 3).
    pub pass: Pass,
}

/// Constants of the pass model `t = a + c*B + d*ctx/1000 + e*n`, in microseconds.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Default)]
pub struct Pass {
    /// A pass that does nothing.
    pub a: f32,
    /// Each decoding row.
    pub c: f32,
    /// Each thousand tokens of context.
    pub d: f32,
    /// Each new prompt token.
    pub e: f32,
}

/// One change at a worker that routers want to know.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A block with this sequence hash can be found here.
    Stored(u64),
    /// It can no longer.
    Removed(u64),
    /// A booking of a router is now part of this worker's own load, or has ended.
    Covered {
        /// The request.
        request: RequestId,
        /// Its attempt.
        attempt: Attempt,
        /// The placement.
        placement: Placement,
    },
}
