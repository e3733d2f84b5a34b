//! Something that happens at a moment.

use bus_schemas::{
    Meta, NodeId, NodeRef, RequestId, RequestSpec, Ticket,
    messages::{AnyMessage, SlotRef},
};
use logic::{Micros, batch::StepPlan};

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Letter {
        to: NodeId,
        meta: Meta,
        message: AnyMessage,
    },
    Wake(NodeRef),
    Step(NodeRef, StepPlan),
    Land {
        to: NodeRef,
        take: u64,
        ticket: Ticket,
        owner: NodeRef,
        pieces: Vec<(SlotRef, SlotRef)>,
    },
    Settle(NodeRef, u64),
    Gone {
        to: NodeRef,
        node: NodeRef,
    },
    Submit {
        gateway: NodeId,
        spec: RequestSpec,
    },
    Cancel {
        gateway: NodeId,
        request: RequestId,
    },
    Crash(NodeId),
    Restart(NodeId),
    Freeze(NodeId),
    Thaw(NodeId),
    HoldBus(Micros),
}

impl Event {
    /// The node that must be running for this to happen to it now.
    pub(super) const fn target(&self) -> Option<NodeId> {
        match self {
            Self::Letter { to, .. } => Some(*to),
            Self::Wake(node) | Self::Step(node, _) | Self::Settle(node, _) => Some(node.node),
            Self::Land { to, .. } | Self::Gone { to, .. } => Some(to.node),
            Self::Submit { gateway, .. } | Self::Cancel { gateway, .. } => Some(*gateway),
            Self::Crash(_)
            | Self::Restart(_)
            | Self::Freeze(_)
            | Self::Thaw(_)
            | Self::HoldBus(_) => None,
        }
    }
}
