//! The router's core: places attempts on workers, hears what they have, remembers what it has just booked.
//!
//! Its picture is a cache. It promises nothing, owns nothing, and any number of routers is safe, because each
//! worker refuses what it has no memory for. Start at [`Router::handle`].

mod placing;
mod view;

use std::collections::{BTreeMap, VecDeque};

use bus_schemas::{
    Meta, NodeId, NodeRef, Role, Roles,
    limits::{BEAT_US, LEASE_US},
    messages::{
        AnyMessage, Beat, Change, Intake, Load, Notice, Orphaned, SnapshotAsk, SnapshotPart,
    },
};

use self::placing::{Booking, BookingKey, Placing, PlacingKey};
pub use self::view::{Decision, NodeView, Snapshot};
use super::{Dest, Outgoing};
use crate::{
    core::{Core, Micros},
    member::{Members, Observed},
    place::KvIndex,
};

/// Decisions kept for `req why`: some 2 KiB each.
pub(super) const DECISIONS_MAX: usize = 1024;
/// A snapshot that was asked for and did not come is asked for again after this.
const SNAPSHOT_AGAIN_US: u64 = 1_000_000;
/// Parts of one snapshot: at 8,192 hashes each, 16 million blocks.
const SNAPSHOT_PARTS_MAX: u32 = 2048;

/// What a router is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own name and epoch.
    pub me: NodeRef,
    /// Longest uncached prompt that a decode worker prefills itself.
    pub local_prefill_max: u32,
    /// Output expected of a request before any was observed.
    pub expected_output: u32,
    /// Where its admin port listens.
    pub admin: String,
}

impl Config {
    /// Defaults for `me`.
    #[must_use]
    pub const fn new(me: NodeRef, local_prefill_max: u32) -> Self {
        Self {
            me,
            local_prefill_max,
            expected_output: 200,
            admin: String::new(),
        }
    }
}

/// What a router is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A letter arrived.
    Letter(Meta, AnyMessage),
    /// Nobody listens on that node's subject any more.
    Gone(NodeRef),
    /// The bus came up or went down.
    Link(bool),
    /// The process was frozen and runs again.
    Woke,
    /// Take nothing new.
    Drain,
}

/// What a router wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a letter.
    Send(Outgoing),
    /// Ask that node's subject whether anybody is there.
    Probe(NodeRef),
    /// Something a person may want to read in the log.
    Note(Note),
}

/// What may be logged.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A worker's card differs from that of most of its pool: it is not used.
    CardDiffers(NodeRef),
    /// A notice was missed; a snapshot was asked for.
    Missed(NodeRef),
}

/// What is known of one worker's notices.
#[derive(Debug, Default)]
struct Ledger {
    /// Number of the last change applied.
    number: u64,
    /// A snapshot is being waited for; asked again then.
    asked_until: Option<Micros>,
    parts: BTreeMap<u32, Vec<u64>>,
    parts_number: u64,
}

/// What a router has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attempts placed.
    pub placed: u64,
    /// Placements refused by workers.
    pub refused: u64,
    /// Attempts rejected.
    pub rejected: u64,
    /// Gaps in notices.
    pub gaps: u64,
    /// Letters that were old, strange or not for us.
    pub stale: u64,
}

/// The router's core.
#[derive(Debug)]
pub struct Router {
    config: Config,
    members: Members,
    index: KvIndex,
    ledgers: BTreeMap<NodeId, Ledger>,
    placings: BTreeMap<PlacingKey, Placing>,
    bookings: BTreeMap<BookingKey, Booking>,
    decisions: VecDeque<Decision>,
    /// Where recent requests were placed, for the hint when their owner goes.
    intake: Intake,
    beat_at: Micros,
    random: u64,
    counters: Counters,
}

impl Router {
    /// A router that knows nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            members: Members::new(LEASE_US),
            index: KvIndex::default(),
            ledgers: BTreeMap::new(),
            placings: BTreeMap::new(),
            bookings: BTreeMap::new(),
            decisions: VecDeque::new(),
            intake: Intake::Open,
            beat_at: Micros(0),
            random: config.me.epoch.0,
            counters: Counters::default(),
            config,
        }
    }

    fn send(&self, to: NodeRef, meta: Meta, message: impl Into<AnyMessage>, out: &mut Vec<Effect>) {
        let meta = Meta {
            from: self.config.me,
            to,
            ..meta
        };
        let dest = Dest::Node(to.node);
        out.push(Effect::Send(Outgoing {
            dest,
            meta,
            message: message.into(),
        }));
    }

    fn letter(&mut self, now: Micros, meta: Meta, message: AnyMessage, out: &mut Vec<Effect>) {
        match message {
            AnyMessage::Beat(beat) => self.heard(now, meta.from, beat, out),
            AnyMessage::Notice(notice) => self.notice(now, meta.from, &notice, out),
            AnyMessage::SnapshotPart(part) => self.snapshot_part(now, meta.from, part, out),
            AnyMessage::Admit(admit) => self.admit(now, meta, admit, out),
            AnyMessage::Promised(promised) => self.promised(&meta, promised.placement),
            AnyMessage::Refused(refused) => self.refused(now, &meta, &refused, out),
            AnyMessage::Rejected(_)
            | AnyMessage::Reserve(_)
            | AnyMessage::Bound(_)
            | AnyMessage::Cancel(_)
            | AnyMessage::Tokens(_)
            | AnyMessage::AskTokens(_)
            | AnyMessage::Confirm(_)
            | AnyMessage::Unknown(_)
            | AnyMessage::Prefill(_)
            | AnyMessage::PrefillRefused(_)
            | AnyMessage::Offer(_)
            | AnyMessage::Release(_)
            | AnyMessage::Released(_)
            | AnyMessage::Abort(_)
            | AnyMessage::SnapshotAsk(_)
            | AnyMessage::Orphaned(_) => self.counters.stale += 1,
        }
    }

    fn heard(&mut self, now: Micros, from: NodeRef, beat: Beat, out: &mut Vec<Effect>) {
        if from.node == self.config.me.node {
            return;
        }
        let number = beat.notice;
        let is_worker = beat.roles.has(Role::Decode) || beat.roles.has(Role::Prefill);
        match self.members.observe(now, from, beat) {
            Observed::Restarted(old) => {
                self.node_lost(now, old, out);
                self.ledgers.insert(from.node, Ledger::default());
            }
            Observed::New => {
                self.ledgers.insert(from.node, Ledger::default());
            }
            Observed::Renewed => {}
            Observed::Stale => {
                self.counters.stale += 1;
                return;
            }
        }
        let behind = self
            .ledgers
            .get(&from.node)
            .is_some_and(|l| l.number < number);
        if is_worker && behind {
            self.ask_snapshot(now, from, out);
        }
    }

    /// Asks a worker for all it has, once in a while.
    fn ask_snapshot(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        let Some(ledger) = self.ledgers.get_mut(&node.node) else {
            return;
        };
        if ledger.asked_until.is_some_and(|until| until > now) {
            return;
        }
        ledger.asked_until = Some(now.after(SNAPSHOT_AGAIN_US));
        ledger.parts.clear();
        self.counters.gaps += 1;
        out.push(Effect::Note(Note::Missed(node)));
        self.send(node, Meta::node(self.config.me, node), SnapshotAsk {}, out);
    }

    fn notice(&mut self, now: Micros, from: NodeRef, notice: &Notice, out: &mut Vec<Effect>) {
        if !self.members.is_live(from) {
            self.counters.stale += 1;
            return;
        }
        let Some(ledger) = self.ledgers.get_mut(&from.node) else {
            return;
        };
        let last = (notice.first + notice.changes.len() as u64).saturating_sub(1);
        if notice.first > ledger.number + 1 {
            return self.ask_snapshot(now, from, out);
        }
        let known = usize::try_from(ledger.number + 1 - notice.first).unwrap_or(usize::MAX);
        ledger.number = ledger.number.max(last);
        for change in notice.changes.iter().skip(known) {
            match *change {
                Change::Stored(hash) => self.index.store(from.node, hash),
                Change::Removed(hash) => self.index.remove(from.node, hash),
                Change::Covered {
                    request,
                    attempt,
                    placement,
                } => {
                    self.bookings.remove(&(request, attempt, placement));
                }
            }
        }
    }

    fn snapshot_part(
        &mut self,
        now: Micros,
        from: NodeRef,
        part: SnapshotPart,
        out: &mut Vec<Effect>,
    ) {
        if !self.members.is_live(from) || part.parts > SNAPSHOT_PARTS_MAX || part.part >= part.parts
        {
            self.counters.stale += 1;
            return;
        }
        let Some(ledger) = self.ledgers.get_mut(&from.node) else {
            return;
        };
        if ledger.asked_until.is_none() || part.number < ledger.number {
            return;
        }
        if part.number != ledger.parts_number {
            ledger.parts.clear();
            ledger.parts_number = part.number;
        }
        ledger.parts.insert(part.part, part.blocks);
        if ledger.parts.len() < part.parts as usize {
            return;
        }
        ledger.number = part.number;
        ledger.asked_until = None;
        let parts = std::mem::take(&mut ledger.parts);
        self.index.clear(from.node);
        for hash in parts.into_values().flatten() {
            self.index.store(from.node, hash);
        }
        let behind = self
            .members
            .get(from.node)
            .is_some_and(|m| m.beat.notice > part.number);
        if behind {
            self.ask_snapshot(now, from, out);
        }
    }

    fn node_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        self.index.clear(node.node);
        self.ledgers.remove(&node.node);
        self.bookings
            .retain(|_, b| b.decode != node && b.prefill != Some(node));
        // A placement that waits for its word is tried elsewhere; what it may have owned, its gateway is told.
        let waiting: Vec<PlacingKey> = self
            .placings
            .iter()
            .filter(|(_, p)| p.decode == node)
            .map(|(k, _)| *k)
            .collect();
        for key in waiting {
            self.place_again(now, key, out);
        }
        for decision in self.decisions.iter().filter(|d| d.decode == node) {
            let meta = Meta {
                request: decision.request,
                attempt: decision.attempt,
                ..Meta::node(self.config.me, decision.gateway)
            };
            let orphaned = Orphaned { owner: node };
            self.send(decision.gateway, meta, orphaned, out);
        }
    }

    fn beat(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.beat_at = now.after(BEAT_US);
        let beat = Beat {
            roles: Roles::only(Role::Router),
            model: String::new(),
            card: 0,
            intake: self.intake,
            notice: 0,
            load: Load::default(),
            fabric: Vec::new(),
            unreachable: Vec::new(),
            admin: self.config.admin.clone(),
        };
        let meta = Meta::node(self.config.me, NodeRef::NONE);
        out.push(Effect::Send(Outgoing {
            dest: Dest::Beats,
            meta,
            message: beat.into(),
        }));
        out.extend(self.members.suspects(now).into_iter().map(Effect::Probe));
        self.bookings.retain(|_, b| b.until > now);
        self.placings.retain(|_, p| p.until > now);
    }
}

impl Core for Router {
    type Input = Input;
    type Effect = Effect;
    type Snapshot = Snapshot;

    fn handle(&mut self, now: Micros, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Letter(meta, message) => self.letter(now, meta, message, out),
            Input::Gone(node) => {
                if self.members.gone(node) {
                    self.node_lost(now, node, out);
                }
            }
            Input::Link(up) => self.members.link(now, up),
            Input::Woke => self.members.woke(now),
            Input::Drain => {
                self.intake = Intake::Draining;
                self.beat(now, out);
            }
        }
    }

    fn deadline(&self) -> Option<Micros> {
        [Some(self.beat_at), self.members.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn expire(&mut self, now: Micros, out: &mut Vec<Effect>) {
        for lost in self.members.expire(now) {
            self.node_lost(now, lost, out);
        }
        if self.beat_at <= now {
            self.beat(now, out);
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.view()
    }
}
