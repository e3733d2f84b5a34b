//! The role cores, and the effect that they share: a letter to somebody.
//!
//! Only a gateway binds owners and records outcomes, only a router places, only a worker promises its memory.

pub mod gateway;
pub mod router;
pub mod worker;

use bus_schemas::{Meta, NodeId, messages::AnyMessage};

/// Where a letter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dest {
    /// One node's own subject.
    Node(NodeId),
    /// Whichever router takes it: the fallback while no router's beat is known.
    AnyRouter,
    /// Everybody who listens to beats.
    Beats,
    /// Everybody who listens to notices.
    Notices,
}

/// A letter to be sent; it may be lost, repeated or late, so whoever needs it heals it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub dest: Dest,
    /// Who, about what, and how much time remains.
    pub meta: Meta,
    /// What.
    pub message: AnyMessage,
}
