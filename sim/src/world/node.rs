//! A node: the core that production runs, and what a process keeps around it.
//!
//! It never decides for its core.

use std::collections::BTreeSet;

use bus_schemas::{NodeRef, Ticket};
use logic::{
    Micros,
    role::{gateway, router, worker},
};

use super::event::Event;
use crate::engine::Memory;

/// A node's core.
#[derive(Debug)]
pub enum Brain {
    /// A gateway.
    Gateway(Box<gateway::Gateway>),
    /// A router.
    Router(Box<router::Router>),
    /// A worker.
    Worker(Box<worker::Worker>),
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its present incarnation.
    pub me: NodeRef,
    /// Its core; none while it is down.
    pub brain: Option<Brain>,
    /// Whether it is frozen; what arrives meanwhile waits.
    pub frozen: bool,
    pub(super) waiting: Vec<Event>,
    pub(super) memory: Memory,
    pub(super) exports: BTreeSet<Ticket>,
    pub(super) wake_armed: Option<Micros>,
}

/// How to make a node's core for an incarnation.
pub type Recipe = Box<dyn Fn(NodeRef) -> Brain>;
