//! The reader's thread: connects to owners, asks before each take, and copies the blocks itself.
//!
//! It writes only into slots that its own worker named, and only after the owner said yes. The copies run here and
//! nowhere else, so a take that has ended has no operation outstanding.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use bus_schemas::NodeRef;

use super::{
    link::Broken,
    message::Message,
    peer::{Address, Answer, Peer, State},
};
use crate::{
    FabricConfig, Failure, Take,
    book::Book,
    copier::Copier,
    counters::Counters,
    peers::{Peers, Unreachable},
    wake::{Doorbell, Spin, interest, sleep},
};

/// An owner that has not welcomed us by then is not reachable this way.
const GREETING: Duration = Duration::from_secs(4);
/// Back-stop of the sleep, in case a wakeup was lost.
const SLEEP: Duration = Duration::from_secs(1);

/// What the fabric's methods ask of the thread.
pub(super) enum Command {
    Know(NodeRef, Result<Address, Failure>),
    Forget(NodeRef),
    Take(Take),
    Cancel(u64),
}

/// State of the thread.
pub(super) struct Reader {
    config: FabricConfig,
    inbox: Receiver<Command>,
    bell: Arc<Doorbell>,
    stopped: Arc<AtomicBool>,
    counters: Arc<Counters>,
    book: Book,
    copier: Copier,
    peers: Peers<Peer>,
    /// Takes that wait for a link or an answer.
    waiting: BTreeMap<u64, Take>,
}

impl Reader {
    pub(super) fn new(
        config: &FabricConfig,
        inbox: Receiver<Command>,
        (bell, stopped): (&Arc<Doorbell>, &Arc<AtomicBool>),
        counters: &Arc<Counters>,
        unreachable: &Unreachable,
    ) -> Self {
        Self {
            config: config.clone(),
            inbox,
            bell: Arc::clone(bell),
            stopped: Arc::clone(stopped),
            counters: Arc::clone(counters),
            book: Book::new(Arc::clone(&config.sink), Arc::clone(counters)),
            copier: Copier::new(Arc::clone(&config.region)),
            peers: Peers::new(unreachable),
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) {
        let mut spin = Spin::default();
        while !self.stopped.load(Ordering::Acquire) {
            let linked: Vec<(NodeRef, libc::pollfd)> = self
                .peers
                .iter()
                .filter_map(|(peer, row)| Some((peer, row.link()?.interest())))
                .collect();
            let mut fds = vec![interest(self.bell.fd(), false)];
            fds.extend(linked.iter().map(|(_, fd)| *fd));
            sleep(&mut fds, spin.limit(self.pause()));
            if fds.iter().any(|fd| fd.revents != 0) {
                spin.busy();
            }
            self.bell.hush();
            for ((peer, _), fd) in linked.iter().zip(&fds[1..]) {
                if fd.revents != 0 {
                    self.hear(*peer);
                }
            }
            self.turn();
        }
        // What was asked for before the stop is answered too.
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Take(take) = command {
                self.book
                    .open(&take, self.config.region.slots(), Instant::now());
            }
        }
        for id in self.book.running() {
            self.fail(id, Failure::Cancelled);
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        if !self.copier.is_idle() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let due = self
            .book
            .deadline()
            .map(|at| at.saturating_duration_since(now));
        due.map_or(SLEEP, |due| due.min(SLEEP))
    }

    fn turn(&mut self) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Know(peer, address) => self.know(peer, address),
                Command::Forget(peer) => self.forget(peer),
                Command::Take(take) => self.open(take),
                Command::Cancel(id) => self.fail(id, Failure::Cancelled),
            }
        }
        let now = Instant::now();
        for id in self.book.expired(now) {
            self.fail(id, Failure::Deadline);
        }
        let silent = |row: &Peer| row.is_greeting() && now.duration_since(row.since) > GREETING;
        let silent: Vec<NodeRef> = self
            .peers
            .iter()
            .filter(|(_, row)| silent(row))
            .map(|(peer, _)| peer)
            .collect();
        silent
            .into_iter()
            .for_each(|peer| self.lose(peer, Broken::HungUp));
        if let Some(step) = self.copier.step() {
            let now = Instant::now();
            self.book.landed(step.id, step.bytes, now);
            if step.corrupt {
                self.corrupt(step.id, now);
            } else if step.done {
                self.book.end(step.id, Ok(()));
            }
        }
    }

    fn know(&mut self, peer: NodeRef, address: Result<Address, Failure>) {
        let Some(replaced) = self.peers.replaced_by(peer) else {
            return;
        };
        replaced.into_iter().for_each(|old| self.forget(old));
        let known = self.peers.get(peer);
        if known.is_none_or(|row| row.address != address && address.is_ok()) {
            if known.is_some() {
                self.forget(peer);
            }
            self.peers.insert(peer, Peer::new(address));
        }
        self.connect(peer);
    }

    fn forget(&mut self, peer: NodeRef) {
        self.peers.remove(peer);
        self.fail_all(peer, Failure::PeerLost);
    }

    fn open(&mut self, take: Take) {
        if !self
            .book
            .open(&take, self.config.region.slots(), Instant::now())
        {
            return;
        }
        let (id, owner) = (take.id, take.owner);
        self.connect(owner);
        let Some(row) = self.peers.get_mut(owner) else {
            return self.fail(id, Failure::Unreachable);
        };
        let sent = match &mut row.state {
            State::Down => {
                let failure = row.address.as_ref().err().copied();
                return self.fail(id, failure.unwrap_or(Failure::Unreachable));
            }
            State::Greeting(_) => Ok(()),
            State::Up(link, _) => link.send(&question(&take)),
        };
        self.waiting.insert(id, take);
        if let Err(broken) = sent {
            self.lose(owner, broken);
        }
    }

    /// Connects if there is an address and no link.
    fn connect(&mut self, peer: NodeRef) {
        if let Some(row) = self.peers.get_mut(peer) {
            let reached = row.connect(self.config.me, peer);
            self.peers.reached(peer, reached);
        }
    }

    /// Reads what an owner says.
    fn hear(&mut self, peer: NodeRef) {
        let Some(row) = self.peers.get_mut(peer) else {
            return;
        };
        let heard = row.hear();
        let outcome = heard.and_then(|heard| {
            if heard.welcomed {
                self.peers.reached(peer, true);
                self.ask_all(peer)?;
            }
            for answer in heard.answers {
                self.answered(peer, answer);
            }
            Ok(())
        });
        if let Err(broken) = outcome {
            self.lose(peer, broken);
        }
    }

    /// Asks for the takes that waited for the link.
    fn ask_all(&mut self, peer: NodeRef) -> Result<(), Broken> {
        let Some(State::Up(link, _)) = self.peers.get_mut(peer).map(|row| &mut row.state) else {
            return Ok(());
        };
        let takes = self.waiting.values().filter(|take| take.owner == peer);
        takes
            .map(question)
            .try_for_each(|question| link.send(&question))
    }

    fn answered(&mut self, peer: NodeRef, answer: Answer) {
        let id = answer.take;
        let Some(State::Up(_, mapping)) = self.peers.get(peer).map(|row| &row.state) else {
            return;
        };
        // A take that has ended meanwhile waits no more; one of another owner is none of this one's business.
        if self.waiting.get(&id).is_none_or(|take| take.owner != peer) {
            return;
        }
        let Some(take) = self.waiting.remove(&id) else {
            return;
        };
        let inside = take
            .pieces
            .iter()
            .all(|piece| piece.from.slot < mapping.slots());
        if !(answer.allowed && inside) {
            self.fail(id, Failure::Denied);
        } else if take.pieces.is_empty() {
            self.book.end(id, Ok(()));
        } else {
            let source = Arc::clone(mapping);
            self.copier.start(id, take.pieces, source, answer.sums);
        }
    }

    /// A link is over: its takes fail. The next take or card connects again.
    fn lose(&mut self, peer: NodeRef, broken: Broken) {
        let Some(row) = self.peers.get_mut(peer) else {
            return;
        };
        let failure = if row.is_greeting() {
            Failure::Unreachable
        } else {
            Failure::PeerLost
        };
        row.state = State::Down;
        self.peers.reached(peer, false);
        tracing::debug!(?peer, ?broken, "a link to a peer on this host is over");
        if broken == Broken::Garbage {
            self.counters.dropped();
        }
        self.fail_all(peer, failure);
        if broken == Broken::Untrue {
            self.peers
                .shun(peer, "the memory that it handed over failed the read-back");
        }
    }

    /// A block of this take is corrupt: nothing more is read from its owner, if that is to blame.
    fn corrupt(&mut self, id: u64, now: Instant) {
        let blamed = self.book.blamed(id, now);
        self.fail(id, Failure::Corrupt);
        if let Some(owner) = blamed {
            self.peers.shun(owner, "a block arrived corrupt");
            self.fail_all(owner, Failure::PeerLost);
        }
    }

    fn fail_all(&mut self, peer: NodeRef, failure: Failure) {
        for id in self.book.running_of(peer) {
            self.fail(id, failure);
        }
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        self.waiting.remove(&id);
        self.copier.stop(id);
        self.book.end(id, Err(failure));
    }
}

fn question(take: &Take) -> Message {
    Message::Check {
        take: take.id,
        ticket: take.ticket,
        seq: take.seq,
        slots: take.pieces.iter().map(|piece| piece.from).collect(),
    }
}
