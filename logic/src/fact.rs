//! What a core did about a request, so that it can be followed through all nodes.
//!
//! A fact is for people: nothing is decided by it, and losing one changes nothing. Cores append it as an
//! effect; whoever runs them writes it down. It carries no token and no text.

use bus_schemas::{
    Attempt, NodeRef, Outcome, Placement, RefuseReason, RequestId, RequestSpec, Role, Trace,
};

use crate::core::Micros;

/// One node's part in one try of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace; its `span` is this one.
    pub trace: Trace,
    /// The span that caused it, on another node; 0 is none.
    pub parent: u64,
    /// The request.
    pub request: RequestId,
    /// In which role the node does its part.
    pub role: Role,
    /// When it began, on this node's clock.
    pub since: Micros,
}

impl Span {
    /// The gateway's part: the whole request. What it sends on names it as the cause.
    pub fn root(now: Micros, spec: &mut RequestSpec) -> Self {
        let parent = spec.trace.span;
        spec.trace = spec.trace.entered(spec.request);
        Self::begun(now, spec, parent, Role::Gateway)
    }

    /// Another node's part, told apart by whose it is and in which try. What it sends on names it as the cause.
    pub fn enter(
        now: Micros,
        spec: &mut RequestSpec,
        (role, me): (Role, NodeRef),
        attempt: Attempt,
    ) -> Self {
        let parent = spec.trace.span;
        let name = format!("{}@{} {}", me.node, me.epoch.0, attempt.0);
        spec.trace.span = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), parent).max(1);
        Self::begun(now, spec, parent, role)
    }

    const fn begun(now: Micros, spec: &RequestSpec, parent: u64, role: Role) -> Self {
        Self {
            role,
            trace: spec.trace,
            parent,
            request: spec.request,
            since: now,
        }
    }

    /// Something that happened in it.
    #[must_use]
    pub const fn fact(&self, now: Micros, attempt: Attempt, what: What) -> Fact {
        Fact {
            span: *self,
            attempt,
            us: now.since(self.since),
            what,
        }
    }
}

/// Something that happened to a request on a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fact {
    /// Where in the trace.
    pub span: Span,
    /// Which try.
    pub attempt: Attempt,
    /// Microseconds since the span began.
    pub us: u64,
    /// What.
    pub what: What,
}

/// What can happen to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Gateway: an attempt was sent to a router; none means to whichever takes it.
    Admitted(Option<NodeRef>),
    /// Router: this worker was asked to own it, and perhaps another one to prefill it.
    Placed {
        /// Which of the router's tries.
        placement: Placement,
        /// Owner to be.
        decode: NodeRef,
        /// Who shall prefill, if another.
        prefill: Option<NodeRef>,
    },
    /// Router, decode or prefill: no, because.
    Refused(RefuseReason),
    /// Decode: so many blocks are reserved.
    Promised(Placement, u32),
    /// Gateway: this worker owns it. Decode: the gateway said so.
    Bound(NodeRef),
    /// Prefill, or decode where it prefills by itself: so many tokens of the prompt are to be computed.
    PrefillStarted(u32),
    /// The same: they are.
    PrefillEnded,
    /// Decode: another one was asked to prefill.
    PrefillAsked(NodeRef),
    /// Decode: the rest is prefilled here after all.
    PrefillFailed,
    /// Decode: so many blocks of an offer were taken, and held until then.
    Taken(usize),
    /// Gateway or decode: the first token of the attempt.
    FirstToken,
    /// Gateway: its owner is gone.
    OwnerLost(NodeRef),
    /// Gateway: the outcome.
    Ended(Outcome),
    /// Decode: every choice has ended here.
    Done,
    /// Decode or prefill: it was let go, or its ticket ended.
    LetGo,
}

impl What {
    /// The word that logs use.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admitted(_) => "admitted",
            Self::Placed { .. } => "placed",
            Self::Refused(_) => "refused",
            Self::Promised(..) => "promised",
            Self::Bound(_) => "bound",
            Self::PrefillStarted(_) => "prefill started",
            Self::PrefillEnded => "prefill ended",
            Self::PrefillAsked(_) => "prefill asked",
            Self::PrefillFailed => "prefill failed",
            Self::Taken(_) => "offer taken",
            Self::FirstToken => "first token",
            Self::OwnerLost(_) => "owner lost",
            Self::Ended(_) => "ended",
            Self::Done => "done",
            Self::LetGo => "let go",
        }
    }
}
