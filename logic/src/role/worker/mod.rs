//! A worker's core: decode, prefill, or both over one memory and one engine.
//!
//! It promises its own memory and nobody else's, owns what it was bound to, and ends each choice itself.
//! It never places, never learns a client's name and never waits: every state has a timer. Its parts:
//! `decode` (promises), `owner` (what follows them), `leg` (the decode side of a remote prefill), `source` (the
//! prefill side), `step` (one engine step out and in), `beat` (what others are told), `view` (admin).

mod beat;
mod decode;
mod interface;
mod job;
mod leg;
mod memory;
mod owner;
mod sequence;
mod source;
mod step;
mod stop;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Meta, NodeRef, Ticket,
    limits::LEASE_US,
    messages::{AnyMessage, Change, Intake, Pass, SlotRef, Stream},
};

pub use self::interface::{Config, Counters, Effect, Input};
pub use self::view::{Audit, JobView, Snapshot, SourceView};
use self::{
    job::{Job, JobId, JobKey},
    memory::Limbo,
    source::{EndedTicket, Source},
    step::Running,
};
use super::{Dest, Outgoing};
use crate::{
    core::{Core, Micros},
    kv::Pool,
    member::{Members, Observed},
};

/// The worker's core.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    pool: Pool,
    members: Members,
    jobs: BTreeMap<JobId, Job>,
    by_key: BTreeMap<JobKey, JobId>,
    by_ticket: BTreeMap<Ticket, JobId>,
    by_take: BTreeMap<u64, JobId>,
    /// Placements that were refused or have ended, until their deadline.
    ended_jobs: BTreeMap<JobKey, Micros>,
    sources: BTreeMap<Ticket, Source>,
    ended_tickets: BTreeMap<Ticket, EndedTicket>,
    /// Destination slots of takes whose operations are not all back; those of failed takes are in quarantine.
    unsettled: BTreeMap<u64, Vec<SlotRef>>,
    limbo: Limbo,
    copies: Vec<(u32, u32)>,
    running: Option<Running>,
    unreachable: Vec<NodeRef>,
    /// Jobs with something new to say.
    dirty: BTreeSet<JobId>,
    /// Before then only what cannot wait is said.
    tokens_at: Micros,
    outbox: BTreeMap<NodeRef, Vec<Stream>>,
    changes: Vec<Change>,
    notice_number: u64,
    notice_at: Micros,
    beat_at: Micros,
    /// Jobs and sources want to be looked at then; an entry may be early or of something that is gone, never late.
    timers: BTreeSet<(Micros, Timer)>,
    next_id: u64,
    next_step: u64,
    output_mean: f64,
    pass: Pass,
    intake: Intake,
    drain_until: Option<Micros>,
    drained: bool,
    counters: Counters,
}

/// What a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Job(JobId),
    Source(Ticket),
    EndedTicket(Ticket),
    EndedJob(JobKey),
}

/// Pools up to this size are audited after every input of a debug build, larger ones at every beat: an audit
/// walks all blocks.
const AUDITED_SLOTS: u32 = 256;

impl Worker {
    /// A worker with an empty cache that knows nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            pool: Pool::new(config.slots, &config.quarantined),
            members: Members::new(config.me, LEASE_US),
            jobs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_ticket: BTreeMap::new(),
            by_take: BTreeMap::new(),
            ended_jobs: BTreeMap::new(),
            sources: BTreeMap::new(),
            ended_tickets: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            limbo: Limbo::default(),
            copies: Vec::new(),
            running: None,
            unreachable: Vec::new(),
            dirty: BTreeSet::new(),
            tokens_at: Micros(0),
            outbox: BTreeMap::new(),
            changes: Vec::new(),
            notice_number: 0,
            notice_at: Micros(0),
            beat_at: Micros(0),
            timers: BTreeSet::new(),
            next_id: 1,
            next_step: 1,
            output_mean: f64::from(config.expected_output),
            pass: config.pass,
            intake: Intake::Open,
            drain_until: None,
            drained: false,
            counters: Counters::default(),
            config,
        }
    }

    fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn send(&self, dest: Dest, meta: Meta, message: impl Into<AnyMessage>, out: &mut Vec<Effect>) {
        out.push(Effect::Send(Outgoing {
            dest,
            meta,
            message: message.into(),
        }));
    }

    fn letter(&mut self, now: Micros, meta: Meta, message: AnyMessage, out: &mut Vec<Effect>) {
        let addressed = meta.to.node == self.config.me.node;
        if addressed && meta.to.epoch.0 != 0 && meta.to != self.config.me {
            return self.stale_addressee(&meta, &message, out);
        }
        match message {
            AnyMessage::Beat(beat) => self.heard(now, meta.from, beat, out),
            _ if !addressed => self.counters.stale += 1,
            AnyMessage::Reserve(reserve) => self.reserve(now, meta, reserve, out),
            AnyMessage::Bound(bound) => self.bound(now, &meta, bound.placement, out),
            AnyMessage::Cancel(cancel) => self.cancel(now, &meta, cancel.placement, out),
            AnyMessage::AskTokens(ask) => self.ask_tokens(now, &meta, &ask, out),
            AnyMessage::Confirm(confirm) => self.confirm(now, &meta, confirm.placement, out),
            AnyMessage::Prefill(prefill) => self.prefill(now, meta, prefill, out),
            AnyMessage::PrefillRefused(refused) => {
                self.prefill_refused(now, refused.ticket, meta.from, out);
            }
            AnyMessage::PrefillFound(found) => self.prefill_found(now, &meta, &found, out),
            AnyMessage::Offer(offer) => self.offer(now, meta, offer, out),
            AnyMessage::Release(release) => self.release(now, &meta, &release, out),
            AnyMessage::Released(released) => self.released(now, &meta, &released, out),
            AnyMessage::Abort(abort) => {
                self.leg_ended_by_peer(now, abort.ticket, meta.from, out);
                self.source_aborted(now, abort.ticket, meta.from, out);
            }
            AnyMessage::SnapshotAsk(_) => self.send_snapshot(now, meta.from, out),
            AnyMessage::Admit(_)
            | AnyMessage::FindPrefill(_)
            | AnyMessage::Rejected(_)
            | AnyMessage::Promised(_)
            | AnyMessage::Refused(_)
            | AnyMessage::Tokens(_)
            | AnyMessage::Unknown(_)
            | AnyMessage::Notice(_)
            | AnyMessage::SnapshotPart(_)
            | AnyMessage::Orphaned(_) => self.counters.stale += 1,
        }
    }

    fn heard(
        &mut self,
        now: Micros,
        from: NodeRef,
        beat: bus_schemas::messages::Beat,
        out: &mut Vec<Effect>,
    ) {
        let other = from.node != self.config.me.node;
        let card = (other && !beat.fabric.is_empty()).then(|| beat.fabric.clone());
        let observed = self.members.observe(now, from, beat);
        if let Observed::Restarted(old) = observed {
            self.node_lost(now, old, out);
        }
        match observed {
            Observed::New | Observed::Restarted(_) => {
                if let Some(card) = card {
                    out.push(Effect::KnowPeer { peer: from, card });
                    self.peer_heard(now, from, out);
                }
            }
            Observed::Stale => {
                self.counters.stale += 1;
                return;
            }
            Observed::Renewed => {}
        }
        self.renew_tickets(now, from);
    }

    fn node_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        self.gateway_lost(now, node, out);
        self.peer_lost(now, node, out);
        self.audience_lost(now, node, out);
        out.push(Effect::ForgetPeer(node));
    }

    /// Sends what piled up while one input was handled, and starts a step if none runs.
    fn finish(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.plan_step(now, out);
        self.flush_tokens(now, out);
        self.flush_notices(now, out);
        self.report_drained(out);
        if self.config.slots <= AUDITED_SLOTS {
            debug_assert_eq!(self.audit(true).fault, None, "every block has one owner");
        }
    }

    fn expire_timers(&mut self, now: Micros, out: &mut Vec<Effect>) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Job(id) => self.expire_job(now, id, out),
                Timer::Source(ticket) => self.expire_source(now, ticket, out),
                Timer::EndedTicket(ticket) => self.expire_ended_ticket(now, ticket),
                Timer::EndedJob(key) => {
                    self.ended_jobs.remove(&key);
                }
            }
        }
    }
}

impl Core for Worker {
    type Input = Input;
    type Effect = Effect;
    type Snapshot = Snapshot;

    fn handle(&mut self, now: Micros, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Letter(meta, message) => self.letter(now, meta, message, out),
            Input::Stepped(result) => self.stepped(now, result, out),
            Input::StepFailed { number } => self.step_failed(now, number, out),
            Input::TakeProgress(take) => self.take_progress(now, take),
            Input::Taken { take, landed } => self.taken(now, take, landed, out),
            Input::Settled(take) => self.settled(take),
            Input::Unreachable(peers) => self.unreachable = peers,
            Input::Gone(node) => {
                if self.members.gone(node) {
                    self.node_lost(now, node, out);
                }
            }
            Input::Link(up) => self.members.link(now, up),
            Input::Woke => self.members.woke(now),
            Input::Cordon(on) => self.cordon(now, on, out),
            Input::Drain { within_us } => self.drain(now, within_us, out),
            Input::Evict(request) => self.evict(now, request, out),
        }
        self.finish(now, out);
    }

    fn deadline(&self) -> Option<Micros> {
        let timers = self.timers.first().map(|(at, _)| *at);
        let tokens = (!self.dirty.is_empty()).then_some(self.tokens_at);
        let notice = (!self.changes.is_empty()).then_some(self.notice_at);
        [
            Some(self.beat_at),
            timers,
            tokens,
            notice,
            self.members.deadline(),
            self.drain_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, now: Micros, out: &mut Vec<Effect>) {
        for lost in self.members.expire(now) {
            self.node_lost(now, lost, out);
        }
        self.expire_timers(now, out);
        self.expire_drain(now, out);
        if self.beat_at <= now {
            self.orphaned_jobs(now, out);
            self.beat(now, out);
        }
        self.finish(now, out);
    }

    fn snapshot(&self) -> Snapshot {
        self.view()
    }
}
