//! The contract of the bulk mover: what a worker's shell asks of it and what it answers.
//!
//! The receiver chooses where bytes land; an operation cannot be recalled, so every take ends with two
//! events: `Taken` (its result, once) and later `Settled` (nothing can write into its slots any more, once).
//! This contract never names an address: peers are known by the opaque card of their beats.

use std::{sync::Arc, time::Duration};

use bus_schemas::{NodeRef, Ticket, messages::SlotRef};

/// Read these blocks of a peer into these slots of ours.
#[derive(Clone, Debug)]
pub struct Take {
    /// Names the take in its events; unique in this fabric.
    pub id: u64,
    /// The right to do it.
    pub ticket: Ticket,
    /// Which offer of the ticket.
    pub seq: u32,
    /// Who has the blocks.
    pub owner: NodeRef,
    /// From where in the owner's region to where in ours.
    pub pieces: Vec<Piece>,
    /// Fails with `Deadline` after this long.
    pub timeout: Duration,
}

/// One block of a take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// In the owner's region.
    pub from: SlotRef,
    /// In ours.
    pub to: SlotRef,
}

/// Let the holder of a ticket read these blocks of ours.
#[derive(Clone, Debug)]
pub struct Export {
    /// The right.
    pub ticket: Ticket,
    /// Which offer.
    pub seq: u32,
    /// The only node that may use it.
    pub audience: NodeRef,
    /// The blocks.
    pub slots: Vec<SlotRef>,
}

/// Why a take failed. Whatever the reason, its destination slots must not be used before `Settled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No card of that node is known, or no lane reaches it.
    #[error("no fabric lane reaches the owner")]
    Unreachable,
    /// The owner died or its lane broke.
    #[error("the owner was lost in mid transfer")]
    PeerLost,
    /// It took longer than allowed.
    #[error("the transfer took longer than allowed")]
    Deadline,
    /// We cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// The owner does not know the ticket, or not for us, or not for these blocks.
    #[error("the owner denies the ticket")]
    Denied,
    /// A message made no sense.
    #[error("the transfer was garbled")]
    Protocol,
    /// Bytes that arrived are not those that the owner has. That owner is not read from again.
    #[error("a block arrived corrupt")]
    Corrupt,
    /// Too much is under way.
    #[error("too many transfers are under way")]
    Overload,
    /// The two regions have blocks of different size.
    #[error("block sizes differ")]
    LayoutMismatch,
}

/// What the fabric reports. Events of one take come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FabricEvent {
    /// Bytes arrived for this take since the last event; at most one a take and 100 ms.
    Progress {
        /// Which take.
        id: u64,
        /// So far.
        bytes: u64,
    },
    /// The take ended. Exactly once.
    Taken {
        /// Which take.
        id: u64,
        /// How.
        result: Result<u64, Failure>,
    },
    /// No operation of the take is outstanding: its slots may be reused. Exactly once, after `Taken`.
    Settled {
        /// Which take.
        id: u64,
    },
}

/// Where events go. Called from the fabric's own threads; must not block.
pub type EventSink = Arc<dyn Fn(FabricEvent) + Send + Sync>;

/// Moves KV blocks between nodes. No method blocks; results come as events.
pub trait Fabric: Send + Sync {
    /// How peers reach this fabric: opaque, at most 512 bytes, carried in beats.
    fn card(&self) -> Vec<u8>;
    /// A peer's card was heard. Idempotent; may connect ahead of time.
    fn know(&self, peer: NodeRef, card: &[u8]);
    /// A peer is gone: its takes fail, its connections close.
    fn forget(&self, peer: NodeRef);
    /// Peers to which no lane was found, or whose blocks arrived corrupt, for the worker's beat.
    fn unreachable(&self) -> Vec<NodeRef>;
    /// Lets the audience of a ticket read blocks.
    fn export(&self, export: Export);
    /// Ends all exports of a ticket. Reads under way may still see the bytes; the release handshake rejects them.
    fn revoke(&self, ticket: Ticket);
    /// Starts a take.
    fn take(&self, take: Take);
    /// Gives a take up: `Taken(Err(Cancelled))` at once unless it has ended, `Settled` when it is safe.
    fn cancel(&self, id: u64);
    /// Bytes moved in and out since the start, for metrics and tests.
    fn moved(&self) -> Moved;
}

/// Counters of a fabric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes taken from peers.
    pub bytes_in: u64,
    /// Bytes that peers took, as far as this side sees it (reads from a shared mapping are seen by the reader only).
    pub bytes_out: u64,
    /// Takes completed.
    pub takes: u64,
    /// Takes failed.
    pub failures: u64,
    /// Messages from peers that made no sense and were dropped.
    pub garbage: u64,
}
