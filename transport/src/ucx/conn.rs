//! The two kinds of connection: to an owner that we read from, and from a guest that reads from us.
//!
//! Plain state; the lane decides and UCX moves.

use std::time::Instant;

use bus_schemas::NodeRef;

use super::{queue::Queue, worker::Endpoint};

/// An owner that we have connected to.
pub(super) struct Owner {
    pub(super) endpoint: Endpoint,
    /// Whether it has let us in.
    pub(super) welcomed: bool,
    pub(super) since: Instant,
}

/// Somebody who has connected to us.
pub(super) struct Guest {
    pub(super) endpoint: Endpoint,
    /// Who it is, once it has said so and shown the key.
    pub(super) reader: Option<NodeRef>,
    pub(super) since: Instant,
    /// Blocks that it asked for and that wait for their turn.
    pub(super) queue: Queue,
    /// Blocks being sent.
    pub(super) sending: usize,
}

/// Whose endpoint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Owner(NodeRef),
    Guest(u64),
}
