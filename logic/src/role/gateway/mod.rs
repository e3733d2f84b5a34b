//! The gateway's core: admits requests, binds their owners, delivers their tokens, records their one outcome.
//!
//! It binds at most one (attempt, node, epoch, placement) of a request at a time, and only what that
//! owner sends counts. It never places, never renders text and never trusts a worker's view of an end
//! over its own record. Start at [`Gateway::handle`]; one request's state is [`open::Open`].

mod cancels;
mod interface;
mod letters;
mod open;

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Meta, NodeRef, Outcome, RefuseReason, RequestId, RequestSpec, Role, Roles,
    limits::{BEAT_US, DEADLINE_MAX_US, LEASE_US},
    messages::{Beat, Intake, Load},
    spec::FailReason,
};

use self::{
    cancels::{CancelKey, CancelRow},
    open::Open,
};
pub use self::{
    interface::{Config, Counters, Effect, Input, Snapshot},
    open::OpenView,
};
use super::{Dest, Outgoing};
use crate::{
    core::{Core, Micros},
    fact::What,
    member::Members,
};

/// The gateway's core.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    open: BTreeMap<RequestId, Open>,
    /// When requests want to be looked at; an entry may be early or of an ended request, never late.
    timers: BTreeSet<(Micros, RequestId)>,
    cancels: BTreeMap<CancelKey, CancelRow>,
    members: Members,
    beat_at: Micros,
    intake: Intake,
    drained: bool,
    counters: Counters,
}

impl Gateway {
    /// A gateway that knows nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            members: Members::new(config.me, LEASE_US),
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            cancels: BTreeMap::new(),
            beat_at: Micros(0),
            intake: Intake::Open,
            drained: false,
            counters: Counters::default(),
            config,
        }
    }

    fn submit(&mut self, now: Micros, spec: RequestSpec, deadline_us: u64, out: &mut Vec<Effect>) {
        let request = spec.request;
        if self.intake != Intake::Open || self.open.len() >= self.config.open_max {
            self.counters.refused += 1;
            let reason = match self.intake {
                Intake::Open => FailReason::Overloaded,
                Intake::Cordoned | Intake::Draining => FailReason::Draining,
            };
            let outcome = Outcome::Failed(reason);
            out.push(Effect::Ended {
                request,
                outcome,
                retry_after_ms: Some(open::RETRY_HINT_MS),
            });
            return;
        }
        if self.open.contains_key(&request) {
            self.counters.stale += 1;
            return;
        }
        self.counters.admitted += 1;
        let deadline = now.after(deadline_us.min(DEADLINE_MAX_US));
        self.open.insert(request, Open::new(now, spec, deadline));
        self.admit(now, request, out);
    }

    /// Starts the next attempt of a request that has no owner.
    fn admit(&mut self, now: Micros, request: RequestId, out: &mut Vec<Effect>) {
        let router = self.pick_router(request);
        let me = self.config.me;
        let Some(open) = self.open.get_mut(&request) else {
            return;
        };
        let admit = open.next_attempt(now);
        let to = router.map_or(NodeRef::NONE, |r| r);
        let dest = router.map_or(Dest::AnyRouter, |r| Dest::Node(r.node));
        let meta = open.meta(now, me, to, open.attempt());
        out.push(Effect::Fact(open.fact(now, What::Admitted(router))));
        out.push(Effect::Send(Outgoing {
            dest,
            meta,
            message: admit.into(),
        }));
        self.schedule(request);
    }

    /// Arms the timer of a request; needed whenever its wake-up may have come nearer.
    fn schedule(&mut self, request: RequestId) {
        if let Some(open) = self.open.get(&request) {
            self.timers.insert((open.wake_at(), request));
        }
    }

    /// A live router: spread by request and attempt, so that a silent one is not tried twice in a row.
    fn pick_router(&self, request: RequestId) -> Option<NodeRef> {
        let attempt = self.open.get(&request).map_or(0, |o| o.attempt().0);
        let routers: Vec<NodeRef> = self
            .members
            .iter()
            .filter(|m| m.beat.roles.has(Role::Router) && m.beat.intake == Intake::Open)
            .map(|m| m.me)
            .collect();
        if routers.is_empty() {
            return None;
        }
        let turn = (request.0 as u64).wrapping_add(u64::from(attempt)) % routers.len() as u64;
        routers.get(usize::try_from(turn).unwrap_or(0)).copied()
    }

    /// Records the outcome, once, and lets the owner go.
    fn end(
        &mut self,
        now: Micros,
        request: RequestId,
        outcome: Outcome,
        retry_after_ms: Option<u32>,
        out: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open.remove(&request) else {
            return;
        };
        self.counters.ended += 1;
        out.push(Effect::Fact(open.fact(now, What::Ended(outcome))));
        out.push(Effect::Ended {
            request,
            outcome,
            retry_after_ms,
        });
        if outcome != Outcome::Completed
            && let Some(owner) = open.owner()
        {
            let key = (request, owner.attempt, owner.placement, owner.node);
            self.cancel_owner(now, key, out);
        }
        self.report_drained(out);
    }

    fn report_drained(&mut self, out: &mut Vec<Effect>) {
        if self.intake == Intake::Draining && self.open.is_empty() && !self.drained {
            self.drained = true;
            out.push(Effect::Drained);
        }
    }

    /// A node is gone: what it owned goes on elsewhere.
    fn models(&self) -> Vec<(String, u64)> {
        let workers = self.members.iter().filter(|m| !m.beat.model.is_empty());
        let models: BTreeSet<_> = workers
            .map(|m| (m.beat.model.clone(), m.beat.card))
            .collect();
        models.into_iter().collect()
    }

    /// Tells which models live, after the coming or going of a node that has one.
    fn tell_models(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Models(self.models()));
    }

    fn node_lost(&mut self, now: Micros, node: NodeRef, out: &mut Vec<Effect>) {
        self.tell_models(out);
        self.cancels.retain(|key, _| key.3 != node);
        let orphans: Vec<RequestId> = self
            .open
            .iter()
            .filter(|(_, o)| o.is_owned_by(node))
            .map(|(id, _)| *id)
            .collect();
        for request in orphans {
            self.owner_lost(now, request, out);
        }
    }

    /// The owner of a request is gone or gave up: the next attempt, or the end.
    fn owner_lost(&mut self, now: Micros, request: RequestId, out: &mut Vec<Effect>) {
        self.counters.owners_lost += 1;
        let limit = self.config.migrations_max;
        let Some(open) = self.open.get_mut(&request) else {
            return;
        };
        if let Some(owner) = open.owner() {
            let lost = What::OwnerLost(owner.node);
            out.push(Effect::Fact(open.fact(now, lost)));
        }
        if open.lose_owner(now) > limit {
            self.end(
                now,
                request,
                Outcome::Failed(FailReason::WorkerLost),
                None,
                out,
            );
        } else if open.all_ended() {
            self.end(now, request, Outcome::Completed, None, out);
        } else {
            self.admit(now, request, out);
        }
    }

    fn beat(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.beat_at = now.after(BEAT_US);
        let beat = Beat {
            roles: Roles::only(Role::Gateway),
            model: String::new(),
            card: 0,
            intake: self.intake,
            notice: 0,
            load: Load {
                running: u32::try_from(self.open.len()).unwrap_or(u32::MAX),
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
    }

    /// Does what is due for one request.
    fn expire_request(&mut self, now: Micros, request: RequestId, out: &mut Vec<Effect>) {
        let me = self.config.me;
        let Some(open) = self.open.get_mut(&request) else {
            return;
        };
        match open.due(now, self.config.patience_us) {
            open::Due::Nothing => {}
            open::Due::Deadline(outcome) => self.end(now, request, outcome, None, out),
            open::Due::GiveUp {
                reason,
                retry_after_ms,
            } => {
                self.end(
                    now,
                    request,
                    Outcome::Failed(reason),
                    Some(retry_after_ms),
                    out,
                );
            }
            open::Due::Admit => self.admit(now, request, out),
            open::Due::Ask(owner, ask) => {
                let meta = open.meta(now, me, owner.node, owner.attempt);
                let dest = Dest::Node(owner.node.node);
                out.push(Effect::Send(Outgoing {
                    dest,
                    meta,
                    message: ask.into(),
                }));
            }
        }
    }
}

impl Core for Gateway {
    type Input = Input;
    type Effect = Effect;
    type Snapshot = Snapshot;

    fn handle(&mut self, now: Micros, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Submit { spec, deadline_us } => self.submit(now, spec, deadline_us, out),
            Input::Cancel(request) => self.end(now, request, Outcome::Cancelled, None, out),
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
                self.report_drained(out);
            }
        }
    }

    fn deadline(&self) -> Option<Micros> {
        let requests = self.timers.first().map(|(at, _)| *at);
        let cancels = self.cancels.values().map(|r| r.again_at).min();
        [
            Some(self.beat_at),
            requests,
            cancels,
            self.members.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if self.beat_at <= now {
            self.beat(now, out);
        }
        for lost in self.members.expire(now) {
            self.node_lost(now, lost, out);
        }
        while let Some((at, request)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.expire_request(now, request, out);
            self.schedule(request);
        }
        self.expire_cancels(now, out);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            open: self.open.values().map(Open::view).collect(),
            cancels: self.cancels.len(),
            nodes: self.members.iter().cloned().collect(),
            models: self.models(),
            counters: self.counters,
            intake: self.intake,
        }
    }
}

/// Whether a rejection can change by waiting.
const fn may_pass(reason: RefuseReason) -> bool {
    match reason {
        RefuseReason::Full | RefuseReason::Draining | RefuseReason::NoCapacity => true,
        RefuseReason::Ended | RefuseReason::Stale | RefuseReason::Expired => true,
        RefuseReason::UnknownModel | RefuseReason::TooLarge | RefuseReason::Invalid => false,
    }
}

/// What a rejection becomes when it is final.
const fn failure_of(reason: RefuseReason) -> FailReason {
    match reason {
        RefuseReason::UnknownModel => FailReason::UnknownModel,
        RefuseReason::TooLarge | RefuseReason::Invalid => FailReason::TooLarge,
        RefuseReason::Draining => FailReason::Draining,
        RefuseReason::NoCapacity => FailReason::NoCapacity,
        RefuseReason::Expired => FailReason::Deadline,
        RefuseReason::Full | RefuseReason::Ended | RefuseReason::Stale => FailReason::Overloaded,
    }
}
