//! The thread that owns every UCX object: it moves what is asked for, and answers when all operations are back.
//!
//! It spins a little after work and then sleeps until UCX or a command wakes it. It never waits for a peer: each
//! connection and each take has a time after which it is given up. Ways to owners are in `reaching`, what is read over
//! them in `reading`, the owner's side in `owning`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::RawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use bus_schemas::{NodeRef, limits::FABRIC_FROZEN_US};

use super::{
    arrivals::Note,
    conn::{Guest, Owner, Party},
    message::Control,
    reading::Reading,
    worker::{Closing, Endpoint, Worker},
};
use crate::{
    FabricConfig, Failure, Take,
    book::Book,
    card::Key,
    counters::Counters,
    exports::Exports,
    peers::{Peers, Unreachable},
    wake::{Doorbell, Spin, interest, sleep},
};

/// A peer from which nothing comes for this long, though asked, is frozen.
pub(super) const FROZEN: Duration = Duration::from_micros(FABRIC_FROZEN_US);
/// An ended take's operations come back by themselves within this time, or their connection is reset.
const LINGER: Duration = Duration::from_secs(1);
/// Longest sleep: the back-stop for a lost wakeup.
const SLEEP: Duration = Duration::from_millis(100);
/// How often times are looked at while there is work.
const TICK: Duration = Duration::from_millis(1);
/// Calls of progress before everything else has its turn.
const PROGRESS_MAX: usize = 32;
/// How long a stopping lane waits for its operations.
const STOPPING: Duration = Duration::from_secs(5);

/// What the fabric's methods ask of the thread.
pub(super) enum Command {
    Know(NodeRef, Result<Address, Failure>),
    Forget(NodeRef),
    Take(Take),
    Cancel(u64),
}

/// What a card says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) key: Key,
    pub(super) socket: SocketAddr,
}

/// What the thread shares with the fabric's methods.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) bell: Arc<Doorbell>,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) exports: Arc<Exports>,
    pub(super) counters: Arc<Counters>,
    pub(super) unreachable: Unreachable,
    pub(super) lanes: Arc<Mutex<String>>,
}

/// State of the thread.
pub(super) struct Lane {
    pub(super) config: FabricConfig,
    pub(super) key: Key,
    pub(super) shared: Shared,
    pub(super) worker: Worker,
    pub(super) book: Book,
    pub(super) peers: Peers<Result<Address, Failure>>,
    pub(super) owners: BTreeMap<NodeRef, Owner>,
    pub(super) guests: BTreeMap<u64, Guest>,
    pub(super) reading: BTreeMap<u64, Reading>,
    /// Ended takes with operations outstanding, and until when they may come back by themselves.
    lingering: Vec<(Instant, u64, NodeRef)>,
    closing: Vec<Closing>,
    /// When a connection was last made ahead of need.
    pub(super) tried: BTreeMap<NodeRef, Instant>,
    conns_made: u64,
}

impl Lane {
    pub(super) fn new(config: FabricConfig, key: Key, shared: Shared, worker: Worker) -> Self {
        let book = Book::new(Arc::clone(&config.sink), Arc::clone(&shared.counters));
        let peers = Peers::new(&shared.unreachable);
        Self {
            config,
            key,
            shared,
            worker,
            book,
            peers,
            owners: BTreeMap::new(),
            guests: BTreeMap::new(),
            reading: BTreeMap::new(),
            lingering: Vec::new(),
            closing: Vec::new(),
            tried: BTreeMap::new(),
            conns_made: 0,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>, events: RawFd) {
        let mut spin = Spin::default();
        let mut ticked = Instant::now();
        while !self.shared.stopped.load(Ordering::Acquire) {
            let mut worked = false;
            while let Ok(command) = inbox.try_recv() {
                self.obey(command);
                worked = true;
            }
            worked |= self.progress();
            self.push();
            worked |= self.shared.exports.sum_next();
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick(ticked);
            }
            if worked {
                spin.busy();
            }
            let limit = spin.limit(self.pause());
            if !limit.is_zero() && self.worker.arm() {
                let mut fds = [
                    interest(events, false),
                    interest(self.shared.bell.fd(), false),
                ];
                sleep(&mut fds, limit);
                self.shared.bell.hush();
            }
        }
        self.stop(inbox);
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let due = self
            .book
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let idle = self.closing.is_empty() && self.lingering.is_empty();
        let limit = if idle { SLEEP } else { TICK };
        due.map_or(limit, |due| due.clamp(TICK, limit))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Know(peer, address) => self.know(peer, address),
            Command::Forget(peer) => self.forget(peer),
            Command::Take(take) => self.open(take),
            Command::Cancel(id) => self.fail(id, Failure::Cancelled),
        }
    }

    /// Lets UCX work, and acts on what happened.
    fn progress(&mut self) -> bool {
        let calls = (0..PROGRESS_MAX)
            .take_while(|_| self.worker.progress())
            .count();
        let mut noted = false;
        while let Some(note) = self.worker.arrivals().next() {
            noted = true;
            self.notice(note);
        }
        calls > 0 || noted
    }

    fn notice(&mut self, note: Note) {
        match note {
            Note::Control { over, bytes } => self.hear(over, &bytes),
            Note::Knock(request) => self.admit(request),
            Note::Began { take } => self.book.begin(take),
            Note::Landed { take, began, end } => self.landed(take, began, end),
            Note::Proved { owner, bytes } => self.proved(owner, &bytes),
            Note::Sent { conn, well } => self.sent(conn, well),
            Note::Broke { conn, status } => {
                tracing::debug!(conn, status, "a UCX endpoint broke");
                let owner = self
                    .owners
                    .iter()
                    .find(|(_, row)| row.endpoint.conn() == conn);
                match owner.map(|(peer, _)| *peer) {
                    Some(peer) => self.lose(peer),
                    None => self.part(conn),
                }
            }
            Note::Garbage { take } => {
                self.shared.counters.dropped();
                if let Some(id) = take {
                    self.fail(id, Failure::Protocol);
                }
            }
        }
    }

    /// Whose endpoint has this mark.
    fn party(&self, mark: usize) -> Option<Party> {
        let mut guests = self
            .guests
            .iter()
            .filter(|(_, row)| row.endpoint.mark() == mark);
        let mut owners = self
            .owners
            .iter()
            .filter(|(_, row)| row.endpoint.mark() == mark);
        let guest = guests.next().map(|(conn, _)| Party::Guest(*conn));
        guest.or_else(|| owners.next().map(|(peer, _)| Party::Owner(*peer)))
    }

    /// Acts on a control message. Who says what makes no sense is cut off.
    fn hear(&mut self, over: usize, bytes: &[u8]) {
        // What comes from a connection that was closed meanwhile is of no interest.
        let Some(party) = self.party(over) else {
            return;
        };
        let sensible = Control::decode(bytes).is_some_and(|message| match (party, message) {
            (
                Party::Guest(guest),
                Control::Hello {
                    key,
                    from,
                    to,
                    proof,
                },
            ) => key == self.key && to == self.config.me && self.greeted(guest, from, proof),
            (
                Party::Guest(guest),
                Control::Ask {
                    landing,
                    offer,
                    first,
                    slots,
                },
            ) => self.asked(guest, landing, offer, first, &slots),
            (Party::Owner(owner), Control::Answer { landing, allowed }) => {
                self.answered(owner, landing, allowed)
            }
            (Party::Guest(_), Control::Answer { .. })
            | (Party::Owner(_), Control::Hello { .. } | Control::Ask { .. }) => false,
        });
        if !sensible {
            self.shared.counters.dropped();
            match party {
                Party::Guest(guest) => self.part(guest),
                Party::Owner(owner) => self.lose(owner),
            }
        }
    }

    /// A name for the next connection.
    pub(super) fn next_conn(&mut self) -> u64 {
        self.conns_made += 1;
        self.conns_made
    }

    /// Closes an endpoint by force; what was under way on it comes back by progress.
    pub(super) fn close(&mut self, endpoint: Endpoint) {
        self.closing.push(self.worker.close(endpoint));
    }

    /// Looks at all times.
    fn tick(&mut self, now: Instant) {
        for id in self.book.expired(now) {
            self.fail(id, Failure::Deadline);
        }
        let over = self.lingering.extract_if(.., |(until, _, _)| *until <= now);
        for (_, id, peer) in over.collect::<Vec<_>>() {
            if self.book.is_open(id) {
                self.lose(peer);
            }
        }
        let stuck = self
            .reading
            .values()
            .filter(|reading| reading.is_stuck(now));
        for peer in stuck.map(|reading| reading.take.owner).collect::<Vec<_>>() {
            self.lose(peer);
        }
        let late = |since: Instant| now.duration_since(since) >= FROZEN;
        let silent = self
            .owners
            .iter()
            .filter(|(_, row)| !row.welcomed && late(row.since));
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            tracing::warn!(
                ?peer,
                "nothing comes over the lane to a peer; it is not used"
            );
            self.lose(peer);
        }
        let strangers = self
            .guests
            .iter()
            .filter(|(_, row)| row.reader.is_none() && late(row.since));
        for guest in strangers.map(|(guest, _)| *guest).collect::<Vec<_>>() {
            self.part(guest);
        }
        self.sweep();
    }

    /// Forgets the endpoints that UCX has closed.
    fn sweep(&mut self) {
        let worker = &self.worker;
        self.closing
            .retain_mut(|closing| !worker.is_closed(closing));
    }

    /// Notes that a take has ended, perhaps with operations outstanding.
    pub(super) fn linger(&mut self, id: u64, peer: NodeRef) {
        if self.book.is_open(id) {
            self.lingering.push((Instant::now() + LINGER, id, peer));
        }
    }

    /// Ends all takes, closes all connections, and waits for UCX to give everything back.
    fn stop(mut self, inbox: &Receiver<Command>) {
        while let Ok(command) = inbox.try_recv() {
            if let Command::Take(take) = command {
                self.book
                    .open(&take, self.config.region.slots(), Instant::now());
            }
        }
        for id in self.book.running() {
            self.fail(id, Failure::Cancelled);
        }
        for peer in self.owners.keys().copied().collect::<Vec<_>>() {
            self.lose(peer);
        }
        for guest in self.guests.keys().copied().collect::<Vec<_>>() {
            self.part(guest);
        }
        let end = Instant::now() + STOPPING;
        while Instant::now() < end
            && !(self.closing.is_empty() && self.worker.arrivals().pending() == 0)
        {
            self.progress();
            self.sweep();
        }
        self.progress();
        self.worker.retire();
    }
}
