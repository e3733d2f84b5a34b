//! The thread of a memory fabric: opens takes, copies their blocks, and honours deadlines and injected faults.
//!
//! It never holds a lock of another node while it copies.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use bus_schemas::NodeRef;

use super::network::{MemNetwork, Member};
use crate::{
    FabricConfig, Failure, Take,
    book::Book,
    card::{Card, Lane},
    copier::Copier,
    peers::{Peers, Unreachable},
};

/// How often faults are looked at while a take is open.
const FAULTS_EVERY: Duration = Duration::from_millis(2);
/// How long the thread sleeps when nothing is open.
const IDLE: Duration = Duration::from_secs(3600);

/// What the fabric's methods ask of the thread.
pub(super) enum Command {
    Know(NodeRef, Option<Card>),
    Forget(NodeRef),
    Take(Take),
    Cancel(u64),
    /// What was exported needs its sums.
    Sum,
    Stop,
}

/// State of the thread.
pub(super) struct Worker {
    config: FabricConfig,
    network: MemNetwork,
    member: Arc<Member>,
    inbox: Receiver<Command>,
    book: Book,
    copier: Copier,
    peers: Peers<Option<Card>>,
    /// Takes that wait for their owner's answer, and when it comes.
    waiting: BTreeMap<u64, (Take, Instant)>,
    /// Owners of takes that are being copied.
    copying: BTreeMap<u64, Arc<Member>>,
    owners: BTreeMap<u64, NodeRef>,
    /// Takes that failed while being copied, and when their last operation comes back.
    settling: Vec<(Instant, u64)>,
}

impl Worker {
    pub(super) fn new(
        config: &FabricConfig,
        network: &MemNetwork,
        inbox: Receiver<Command>,
        member: &Arc<Member>,
        unreachable: &Unreachable,
    ) -> Self {
        Self {
            config: config.clone(),
            network: network.clone(),
            member: Arc::clone(member),
            inbox,
            book: Book::new(Arc::clone(&config.sink), Arc::clone(&member.counters)),
            copier: Copier::new(Arc::clone(&config.region)),
            peers: Peers::new(unreachable),
            waiting: BTreeMap::new(),
            copying: BTreeMap::new(),
            owners: BTreeMap::new(),
            settling: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(command) = self.next() {
            match command {
                None => {}
                Some(Command::Know(peer, card)) => self.know(peer, card),
                Some(Command::Forget(peer)) => self.forget(peer),
                Some(Command::Take(take)) => self.open(take),
                Some(Command::Cancel(id)) => self.fail(id, Failure::Cancelled),
                Some(Command::Sum) => while self.member.exports.sum_next() {},
                Some(Command::Stop) => break,
            }
            self.turn();
        }
        for id in self.book.running() {
            self.fail(id, Failure::Cancelled);
        }
        for (_, id) in std::mem::take(&mut self.settling) {
            self.book.finish(id);
        }
    }

    /// The next command; `Some(None)` when there is other work, `None` when nobody holds the fabric.
    fn next(&self) -> Option<Option<Command>> {
        if !self.copier.is_idle() && !self.all_frozen() {
            return match self.inbox.try_recv() {
                Ok(command) => Some(Some(command)),
                Err(TryRecvError::Empty) => Some(None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        let wait = if self.book.is_empty() {
            IDLE
        } else {
            FAULTS_EVERY
        };
        match self.inbox.recv_timeout(wait) {
            Ok(command) => Some(Some(command)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn all_frozen(&self) -> bool {
        let mut owners = self.copying.keys().filter_map(|id| self.owners.get(id));
        owners.all(|owner| self.network.faults(*owner).frozen)
    }

    fn know(&mut self, peer: NodeRef, card: Option<Card>) {
        let Some(replaced) = self.peers.replaced_by(peer) else {
            return;
        };
        replaced.into_iter().for_each(|old| self.forget(old));
        let lane = card.filter(|card| card.lane == Lane::Memory);
        if lane.is_none() && self.peers.get(peer).is_some_and(Option::is_some) {
            return;
        }
        self.peers.reached(peer, lane.is_some());
        self.peers.insert(peer, lane);
    }

    fn forget(&mut self, peer: NodeRef) {
        self.peers.remove(peer);
        for id in self.book.running_of(peer) {
            self.fail(id, Failure::PeerLost);
        }
    }

    fn open(&mut self, take: Take) {
        let now = Instant::now();
        let id = take.id;
        if !self.book.open(&take, self.config.region.slots(), now) {
            return;
        }
        let slot_bytes = self.config.region.slot_bytes() as u64;
        match self.peers.get(take.owner) {
            None | Some(None) => self.fail(id, Failure::Unreachable),
            Some(Some(card)) if card.slot_bytes != slot_bytes => {
                self.fail(id, Failure::LayoutMismatch);
            }
            Some(Some(_)) => {
                let due = now + self.network.faults(take.owner).delay;
                self.owners.insert(id, take.owner);
                self.waiting.insert(id, (take, due));
            }
        }
    }

    /// One round: what is due starts, one quantum is copied, what is over ends.
    fn turn(&mut self) {
        let now = Instant::now();
        self.lose_the_dead();
        let due = |(_, (_, due)): &(&u64, &(Take, Instant))| *due <= now;
        for id in self
            .waiting
            .iter()
            .filter(due)
            .map(|(id, _)| *id)
            .collect::<Vec<_>>()
        {
            self.ask(id);
        }
        if !self.all_frozen() {
            self.copy(now);
        }
        for id in self.book.expired(now) {
            self.fail(id, Failure::Deadline);
        }
        let back = self.settling.extract_if(.., |(at, _)| *at <= now);
        for (_, id) in back.collect::<Vec<_>>() {
            self.book.finish(id);
        }
    }

    fn lose_the_dead(&mut self) {
        let lost = |owner: NodeRef| {
            self.network.faults(owner).failed || self.network.member(owner).is_none()
        };
        let ids = self.owners.iter().filter(|(_, owner)| lost(**owner));
        for id in ids.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.fail(id, Failure::PeerLost);
        }
    }

    /// The owner's answer, as its own thread would give it.
    fn ask(&mut self, id: u64) {
        let Some((take, _)) = self.waiting.get(&id) else {
            return;
        };
        let faults = self.network.faults(take.owner);
        if faults.dropped || faults.frozen {
            return;
        }
        let Some(member) = self.network.member(take.owner) else {
            return;
        };
        let offer = (take.ticket, take.seq);
        let slots = take.pieces.iter().map(|piece| piece.from);
        if !member.exports.allows(offer, self.config.me, slots.clone()) {
            return self.fail(id, Failure::Denied);
        }
        let sums = member.exports.sums(offer, slots);
        if let Some((take, _)) = self.waiting.remove(&id) {
            let source: Arc<gpu::Region> = Arc::clone(&member.region);
            self.book.begin(id);
            self.copier.start(id, take.pieces, source, sums);
            self.copying.insert(id, member);
        }
    }

    fn copy(&mut self, now: Instant) {
        let Some(step) = self.copier.step() else {
            return;
        };
        if let Some(member) = self.copying.get(&step.id) {
            member.counters.sent(step.bytes);
        }
        self.book.landed(step.id, step.bytes, now);
        if step.corrupt {
            self.corrupt(step.id, now);
        } else if step.done {
            self.copying.remove(&step.id);
            self.owners.remove(&step.id);
            self.book.finish(step.id);
            self.book.end(step.id, Ok(()));
        }
    }

    /// A block of this take is corrupt: nothing more is read from its owner, if that is to blame.
    fn corrupt(&mut self, id: u64, now: Instant) {
        let blamed = self.book.blamed(id, now);
        self.fail(id, Failure::Corrupt);
        if let Some(owner) = blamed {
            self.peers.shun(owner, "a block arrived corrupt");
            for id in self.book.running_of(owner) {
                self.fail(id, Failure::PeerLost);
            }
        }
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        self.waiting.remove(&id);
        self.copier.stop(id);
        let delay = self
            .owners
            .remove(&id)
            .map(|owner| self.network.faults(owner).settle_delay);
        self.book.end(id, Err(failure));
        if self.copying.remove(&id).is_some() {
            self.settling
                .push((Instant::now() + delay.unwrap_or_default(), id));
        }
    }
}
