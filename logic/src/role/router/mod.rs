//! The router's core: places attempts on workers, hears what they have, remembers what it has just booked.
//!
//! Its picture is a cache. It promises nothing, owns nothing, and any number of routers is safe, because each
//! worker refuses what it has no memory for. Start at [`Router::handle`].

mod bookings;
mod finding;
mod ledger;
mod picture;
mod placing;
mod pools;
mod recent;
mod shape;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bus_schemas::{
    Meta, NodeId, NodeRef, Role, Roles,
    limits::{BEAT_US, LEASE_US},
    messages::{AnyMessage, Beat, Intake, Load},
};

pub use self::view::{Decision, NodeView, Snapshot};
use self::{
    bookings::Bookings,
    ledger::Ledger,
    placing::{Placing, PlacingKey},
    pools::Pools,
    recent::Recent,
};
use super::{Dest, Outgoing};
use crate::{
    core::{Core, Micros},
    fact::Fact,
    member::Members,
    place::KvIndex,
};

/// Decisions kept for `req why`: some 2 KiB each.
const DECISIONS_MAX: usize = 1024;
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
    /// Mixed into the places of block hashes, which clients may choose: nobody else knows it.
    pub secret: u64,
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
            secret: 0,
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
    /// Something about a request that a person may want to follow.
    Fact(Fact),
}

/// What may be logged.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A worker's card or block size differs from that of most of its pool: it is not used.
    CardDiffers(NodeRef),
    /// Notices of a worker are missing; a snapshot was asked for.
    Missed(NodeRef),
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
    /// Snapshots asked for because of gaps in notices.
    pub gaps: u64,
    /// Blocks that the full index could not learn.
    pub unlearned: u64,
    /// Letters that were old, strange or not for us.
    pub stale: u64,
}

/// The router's core.
#[derive(Debug)]
pub struct Router {
    config: Config,
    members: Members,
    pools: Pools,
    /// Models that some worker has served.
    models: BTreeSet<String>,
    index: KvIndex,
    ledgers: BTreeMap<NodeId, Ledger>,
    placings: BTreeMap<PlacingKey, Placing>,
    /// Tokens of all `placings`.
    placing_tokens: usize,
    bookings: Bookings,
    recent: Recent,
    /// The last ones, oldest first.
    decisions: VecDeque<Decision>,
    intake: Intake,
    beat_at: Micros,
    /// State of the generator that breaks ties.
    random: u64,
    counters: Counters,
}

impl Router {
    /// A router that knows nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            members: Members::new(config.me, LEASE_US),
            pools: Pools::default(),
            models: BTreeSet::new(),
            index: KvIndex::keyed(config.secret),
            ledgers: BTreeMap::new(),
            placings: BTreeMap::new(),
            placing_tokens: 0,
            bookings: Bookings::default(),
            recent: Recent::default(),
            decisions: VecDeque::new(),
            intake: Intake::Open,
            beat_at: Micros(0),
            random: config.me.epoch.0,
            counters: Counters::default(),
            config,
        }
    }

    fn send(
        &self,
        to: NodeRef,
        (request, attempt): PlacingKey,
        remaining_us: u64,
        message: impl Into<AnyMessage>,
        out: &mut Vec<Effect>,
    ) {
        let meta = Meta {
            from: self.config.me,
            to,
            request,
            attempt,
            remaining_us,
        };
        out.push(Effect::Send(Outgoing {
            dest: Dest::Node(to.node),
            meta,
            message: message.into(),
        }));
    }

    /// Whether a letter is for this incarnation, or for everybody.
    fn is_for_us(&self, to: NodeRef) -> bool {
        let me = self.config.me;
        let epoch_fits = to.epoch == NodeRef::NONE.epoch || to.epoch == me.epoch;
        to.node == NodeId::NONE || (to.node == me.node && epoch_fits)
    }

    /// The next number of a splitmix64 generator: fair enough to break ties.
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn note_decision(&mut self, decision: Decision) {
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }

    fn letter(&mut self, now: Micros, meta: Meta, message: AnyMessage, out: &mut Vec<Effect>) {
        if !self.is_for_us(meta.to) {
            self.counters.stale += 1;
            return;
        }
        match message {
            AnyMessage::Beat(beat) => self.heard(now, meta.from, beat, out),
            AnyMessage::Notice(notice) => self.notice(now, meta.from, &notice, out),
            AnyMessage::SnapshotPart(part) => self.snapshot_part(now, meta.from, part, out),
            AnyMessage::Admit(admit) => self.admit(now, meta, admit, out),
            AnyMessage::Promised(promised) => self.promised(&meta, promised.placement),
            AnyMessage::Refused(refused) => self.refused(now, &meta, &refused, out),
            AnyMessage::FindPrefill(find) => self.find_prefill(now, &meta, &find, out),
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
            | AnyMessage::PrefillFound(_)
            | AnyMessage::Offer(_)
            | AnyMessage::Release(_)
            | AnyMessage::Released(_)
            | AnyMessage::Abort(_)
            | AnyMessage::SnapshotAsk(_)
            | AnyMessage::Orphaned(_) => self.counters.stale += 1,
        }
    }

    fn beat(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.beat_at = now.after(BEAT_US);
        let running = u32::try_from(self.placings.len()).unwrap_or(u32::MAX);
        let beat = Beat {
            roles: Roles::only(Role::Router),
            model: String::new(),
            card: 0,
            intake: self.intake,
            notice: 0,
            load: Load {
                running,
                ..Load::default()
            },
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
        self.bookings.expire(now);
        self.close_unanswered(now);
    }

    /// The gateway has begun another attempt by now, or will.
    fn close_unanswered(&mut self, now: Micros) {
        let over = |p: &Placing| p.until <= now;
        let keys: Vec<PlacingKey> = self
            .placings
            .iter()
            .filter(|(_, p)| over(p))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.close(key);
        }
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
