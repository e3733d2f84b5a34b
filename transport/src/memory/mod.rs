//! The fabric of one process: a take copies from the owner's region to ours, on a thread of its own.
//!
//! The double that most tests use, and the real thing for `thalamus up`. It keeps the contract of the others,
//! refusals included, and never touches a socket. Faults are set on the [`MemNetwork`].

mod network;
mod worker;

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use bus_schemas::{NodeRef, Ticket};

pub use network::{Faults, MemNetwork};

use crate::{
    Export, Fabric, FabricConfig, FabricError, Moved, Take,
    card::{Card, Lane},
    counters::Counters,
    peers::Unreachable,
};
use network::Member;
use worker::{Command, Worker};

/// A fabric in a [`MemNetwork`].
pub struct MemFabric {
    card: Card,
    network: MemNetwork,
    member: Arc<Member>,
    commands: Sender<Command>,
    unreachable: Unreachable,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl MemFabric {
    /// Joins a network.
    ///
    /// # Errors
    /// [`FabricError::Duplicate`] if this incarnation has joined already, [`FabricError::System`] without a thread.
    pub fn start(network: &MemNetwork, config: FabricConfig) -> Result<Arc<Self>, FabricError> {
        let card = Card {
            node: config.me,
            slots: config.region.slots(),
            slot_bytes: config.region.slot_bytes() as u64,
            lane: Lane::Memory,
        };
        let counters = Arc::<Counters>::default();
        let member = Arc::new(Member::new(&config, &counters));
        if !network.join(config.me, &member) {
            return Err(FabricError::Duplicate(config.me));
        }
        let (commands, inbox) = channel();
        let unreachable = Unreachable::default();
        let worker = Worker::new(&config, network, inbox, &member, &unreachable);
        let thread = std::thread::Builder::new()
            .name("fabric-memory".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| FabricError::System {
                what: "start the copy thread",
                source,
            })?;
        Ok(Arc::new(Self {
            card,
            network: network.clone(),
            member,
            commands,
            unreachable,
            counters,
            thread: Some(thread),
        }))
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the memory fabric's thread is gone");
        }
    }
}

impl Fabric for MemFabric {
    fn card(&self) -> Vec<u8> {
        self.card.encode()
    }

    fn know(&self, peer: NodeRef, card: &[u8]) {
        let card = Card::decode(card).filter(|card| card.node == peer);
        if card.is_none() {
            self.counters.dropped();
        }
        self.send(Command::Know(peer, card));
    }

    fn forget(&self, peer: NodeRef) {
        self.send(Command::Forget(peer));
    }

    fn unreachable(&self) -> Vec<NodeRef> {
        self.unreachable.list()
    }

    fn export(&self, export: Export) {
        if self.member.exports.grant(export) {
            self.send(Command::Sum);
        }
    }

    fn revoke(&self, ticket: Ticket) {
        self.member.exports.revoke(ticket);
    }

    fn take(&self, take: Take) {
        self.send(Command::Take(take));
    }

    fn cancel(&self, id: u64) {
        self.send(Command::Cancel(id));
    }

    fn moved(&self) -> Moved {
        self.counters.moved()
    }
}

impl Drop for MemFabric {
    fn drop(&mut self) {
        self.network.leave(self.card.node);
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the memory fabric's thread panicked");
        }
    }
}
