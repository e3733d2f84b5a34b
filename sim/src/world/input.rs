//! What a node's core is told and what it answers, whatever its role.
//!
//! An input that a role does not know is none: mail for a node of another role is lost, as in production.

use bus_schemas::{Meta, NodeRef, RequestId, RequestSpec, messages::AnyMessage};
use logic::role::{gateway, router, worker};

/// Time that a simulated request may take: longer than any scenario's faults, so that a deadline is never the cure.
pub const DEADLINE_US: u64 = 60_000_000;

/// An input of any role.
pub(super) enum Input {
    Letter(Meta, AnyMessage),
    Submit(RequestSpec),
    Cancel(RequestId),
    Stepped(logic::batch::StepResult),
    Taken { take: u64, landed: bool },
    Settled(u64),
    Gone(NodeRef),
    Woke,
}

impl Input {
    pub(super) fn for_gateway(self) -> Option<gateway::Input> {
        Some(match self {
            Self::Letter(meta, message) => gateway::Input::Letter(meta, message),
            Self::Submit(spec) => gateway::Input::Submit {
                spec,
                deadline_us: DEADLINE_US,
            },
            Self::Cancel(request) => gateway::Input::Cancel(request),
            Self::Gone(node) => gateway::Input::Gone(node),
            Self::Woke => gateway::Input::Woke,
            Self::Stepped(_) | Self::Taken { .. } | Self::Settled(_) => return None,
        })
    }

    pub(super) fn for_router(self) -> Option<router::Input> {
        Some(match self {
            Self::Letter(meta, message) => router::Input::Letter(meta, message),
            Self::Gone(node) => router::Input::Gone(node),
            Self::Woke => router::Input::Woke,
            Self::Submit(_)
            | Self::Cancel(_)
            | Self::Stepped(_)
            | Self::Taken { .. }
            | Self::Settled(_) => return None,
        })
    }

    pub(super) fn for_worker(self) -> Option<worker::Input> {
        Some(match self {
            Self::Letter(meta, message) => worker::Input::Letter(meta, message),
            Self::Stepped(result) => worker::Input::Stepped(result),
            Self::Taken { take, landed } => worker::Input::Taken { take, landed },
            Self::Settled(take) => worker::Input::Settled(take),
            Self::Gone(node) => worker::Input::Gone(node),
            Self::Woke => worker::Input::Woke,
            Self::Submit(_) | Self::Cancel(_) => return None,
        })
    }
}

/// What a core wants done.
pub(super) enum Effects {
    Gateway(Vec<gateway::Effect>),
    Router(Vec<router::Effect>),
    Worker(Vec<worker::Effect>),
}
