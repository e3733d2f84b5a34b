//! The whole cluster in one thread: nodes, bus and fabric under virtual time.
//!
//! Every node runs the very core of production. The bus loses, repeats and delays; nodes crash, restart, freeze
//! and thaw; takes finish late. Same seed, same trace. Nothing here reads a clock or decides for a core.

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{
    Attempt, Epoch, Item, Meta, NodeId, NodeRef, Outcome, RequestId, RequestSpec, Ticket,
    messages::{AnyMessage, SlotRef},
};
use logic::{
    Core, Micros,
    batch::StepPlan,
    role::{Dest, Outgoing, gateway, router, worker},
};

use crate::{
    engine::{self, Memory},
    faults::Faults,
    rng::Rng,
};

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
    waiting: Vec<Event>,
    memory: Memory,
    exports: BTreeSet<Ticket>,
    wake_armed: Option<Micros>,
}

/// How to make a node's core for an incarnation.
pub type Recipe = Box<dyn Fn(NodeRef) -> Brain>;

/// Something that happens at a moment.
#[derive(Clone, Debug)]
enum Event {
    Letter {
        to: NodeId,
        meta: Meta,
        message: AnyMessage,
    },
    Wake(NodeRef),
    Step(NodeRef, StepPlan),
    Land {
        to: NodeRef,
        take: u64,
        ticket: Ticket,
        owner: NodeRef,
        pieces: Vec<(SlotRef, SlotRef)>,
    },
    Settle(NodeRef, u64),
    Gone {
        to: NodeRef,
        node: NodeRef,
    },
    Submit {
        gateway: NodeId,
        spec: RequestSpec,
    },
    Cancel {
        gateway: NodeId,
        request: RequestId,
    },
    Crash(NodeId),
    Restart(NodeId),
    Freeze(NodeId),
    Thaw(NodeId),
}

/// What a client has got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// Tokens of each choice.
    pub output: BTreeMap<u16, Vec<u32>>,
    /// The outcome, once.
    pub outcome: Option<Outcome>,
    /// Its gateway died: the connection broke.
    pub broken: bool,
}

/// The cluster.
pub struct World {
    /// Virtual now.
    pub now: Micros,
    /// Nodes by name.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Clients by request.
    pub clients: BTreeMap<RequestId, Client>,
    /// What may go wrong.
    pub faults: Faults,
    /// A digest of everything that happened, in order.
    pub trace: u64,
    /// Events handled.
    pub events: u64,
    recipes: BTreeMap<NodeId, Recipe>,
    homes: BTreeMap<RequestId, NodeId>,
    queue: BTreeMap<(Micros, u64), Event>,
    cancelled_takes: BTreeSet<(NodeRef, u64)>,
    serial: u64,
    rng: Rng,
    block_tokens: usize,
    log: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl World {
    /// An empty cluster. `log` prints every event.
    #[must_use]
    pub fn new(seed: u64, faults: Faults, block_tokens: usize, log: bool) -> Self {
        Self {
            now: Micros(0),
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            faults,
            trace: 0,
            events: 0,
            recipes: BTreeMap::new(),
            homes: BTreeMap::new(),
            queue: BTreeMap::new(),
            cancelled_takes: BTreeSet::new(),
            serial: 0,
            rng: Rng::new(seed),
            block_tokens,
            log,
        }
    }

    /// Adds a node and starts it.
    pub fn add(&mut self, name: &str, recipe: Recipe) -> NodeId {
        let id = NodeId::new(name).expect("scenarios use valid names");
        self.recipes.insert(id, recipe);
        let me = NodeRef {
            node: id,
            epoch: Epoch(0),
        };
        let node = Node {
            me,
            brain: None,
            frozen: false,
            waiting: Vec::new(),
            memory: Memory::default(),
            exports: BTreeSet::new(),
            wake_armed: None,
        };
        self.nodes.insert(id, node);
        self.restart(id);
        id
    }

    /// A client sends a request at `at`.
    pub fn submit(&mut self, at: Micros, gateway: NodeId, spec: RequestSpec) {
        self.push(at, Event::Submit { gateway, spec });
    }

    /// A client leaves at `at`.
    pub fn cancel(&mut self, at: Micros, gateway: NodeId, request: RequestId) {
        self.push(at, Event::Cancel { gateway, request });
    }

    /// A node dies at `at` and comes back `after_us` later.
    pub fn crash(&mut self, at: Micros, node: NodeId, after_us: u64) {
        self.push(at, Event::Crash(node));
        self.push(at.after(after_us), Event::Restart(node));
    }

    /// A node stands still from `at` for `for_us`.
    pub fn freeze(&mut self, at: Micros, node: NodeId, for_us: u64) {
        self.push(at, Event::Freeze(node));
        self.push(at.after(for_us), Event::Thaw(node));
    }

    fn push(&mut self, at: Micros, event: Event) {
        self.serial += 1;
        self.queue.insert((at, self.serial), event);
    }

    /// Runs until `until`.
    pub fn run(&mut self, until: Micros) {
        while let Some((&(at, serial), _)) = self.queue.first_key_value()
            && at <= until
        {
            let Some(event) = self.queue.remove(&(at, serial)) else {
                return;
            };
            self.now = at;
            self.events += 1;
            self.trace = crate::rng::mix(self.trace ^ at.0 ^ serial);
            if self.log {
                println!("{:>9} {event:?}", at.0);
            }
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = target(&event)
            && let Some(node) = self.nodes.get_mut(&node)
            && node.frozen
        {
            node.waiting.push(event);
            return;
        }
        match event {
            Event::Letter { to, meta, message } => self.input(to, |_| Input::Letter(meta, message)),
            Event::Wake(node) => self.wake(node),
            Event::Step(node, plan) => self.step(node, &plan),
            Event::Land {
                to,
                take,
                ticket,
                owner,
                pieces,
            } => self.land(to, take, ticket, owner, &pieces),
            Event::Settle(node, take) => self.input_ref(node, Input::Settled(take)),
            Event::Gone { to, node } => self.input_ref(to, Input::Gone(node)),
            Event::Submit { gateway, spec } => {
                self.homes.insert(spec.request, gateway);
                self.clients.insert(spec.request, Client::default());
                let up = self.nodes.get(&gateway).is_some_and(|n| n.brain.is_some());
                if up {
                    self.input(gateway, |_| Input::Submit(spec));
                } else if let Some(client) = self.clients.get_mut(&spec.request) {
                    client.broken = true;
                }
            }
            Event::Cancel { gateway, request } => self.input(gateway, |_| Input::Cancel(request)),
            Event::Crash(node) => self.crashed(node),
            Event::Restart(node) => self.restart(node),
            Event::Freeze(node) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.frozen = node.brain.is_some();
                }
            }
            Event::Thaw(node) => self.thaw(node),
        }
    }

    fn crashed(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.brain = None;
        node.frozen = false;
        node.waiting.clear();
        node.exports.clear();
        node.memory = Memory::default();
        for (request, home) in &self.homes {
            if *home == id
                && let Some(client) = self.clients.get_mut(request)
                && client.outcome.is_none()
            {
                client.broken = true;
            }
        }
    }

    fn restart(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.brain.is_some() {
            return;
        }
        node.me.epoch = Epoch(node.me.epoch.0.max(now.0) + 1);
        let Some(recipe) = self.recipes.get(&id) else {
            return;
        };
        node.brain = Some(recipe(node.me));
        node.wake_armed = None;
        let me = node.me;
        self.push(now, Event::Wake(me));
    }

    fn thaw(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if !std::mem::take(&mut node.frozen) {
            return;
        }
        let me = node.me;
        let waiting = std::mem::take(&mut node.waiting);
        // As production does it: the core hears of the freeze, its mail is drained, and only then is anything expired.
        self.input_ref(me, Input::Woke);
        let (wakes, mail): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|e| matches!(e, Event::Wake(_)));
        for event in mail.into_iter().chain(wakes) {
            self.happen(event);
        }
    }

    fn wake(&mut self, me: NodeRef) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&me.node).filter(|n| n.me == me) else {
            return;
        };
        node.wake_armed = None;
        let effects = match &mut node.brain {
            None => return,
            Some(Brain::Gateway(core)) => Effects::Gateway(expire(now, &mut **core)),
            Some(Brain::Router(core)) => Effects::Router(expire(now, &mut **core)),
            Some(Brain::Worker(core)) => Effects::Worker(expire(now, &mut **core)),
        };
        self.perform(me, effects);
    }

    fn input_ref(&mut self, to: NodeRef, input: Input) {
        if self.nodes.get(&to.node).is_some_and(|n| n.me == to) {
            self.input(to.node, |_| input);
        }
    }

    fn input(&mut self, to: NodeId, input: impl FnOnce(NodeRef) -> Input) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&to) else {
            return;
        };
        let me = node.me;
        let input = input(me);
        let effects = match &mut node.brain {
            None => return,
            Some(Brain::Gateway(core)) => match input.for_gateway() {
                Some(input) => Effects::Gateway(handle(now, &mut **core, input)),
                None => return,
            },
            Some(Brain::Router(core)) => match input.for_router() {
                Some(input) => Effects::Router(handle(now, &mut **core, input)),
                None => return,
            },
            Some(Brain::Worker(core)) => match input.for_worker() {
                Some(input) => Effects::Worker(handle(now, &mut **core, input)),
                None => return,
            },
        };
        self.perform(me, effects);
    }

    fn perform(&mut self, me: NodeRef, effects: Effects) {
        match effects {
            Effects::Gateway(effects) => {
                effects.into_iter().for_each(|e| self.gateway_effect(me, e))
            }
            Effects::Router(effects) => effects.into_iter().for_each(|e| self.router_effect(me, e)),
            Effects::Worker(effects) => effects.into_iter().for_each(|e| self.worker_effect(me, e)),
        }
        self.arm(me);
    }

    fn arm(&mut self, me: NodeRef) {
        let Some(node) = self.nodes.get_mut(&me.node) else {
            return;
        };
        let deadline = match &node.brain {
            None => None,
            Some(Brain::Gateway(core)) => core.deadline(),
            Some(Brain::Router(core)) => core.deadline(),
            Some(Brain::Worker(core)) => core.deadline(),
        };
        let Some(at) = deadline.map(|at| at.max(self.now.after(1))) else {
            return;
        };
        if node.wake_armed.is_none_or(|armed| armed > at) {
            node.wake_armed = Some(at);
            self.push(at, Event::Wake(me));
        }
    }

    fn gateway_effect(&mut self, me: NodeRef, effect: gateway::Effect) {
        match effect {
            gateway::Effect::Send(outgoing) => self.post(me, outgoing),
            gateway::Effect::Deliver { request, items, .. } => self.deliver(request, items),
            gateway::Effect::Ended {
                request, outcome, ..
            } => {
                let client = self.clients.entry(request).or_default();
                assert_eq!(client.outcome, None, "law 1: {request} has one outcome");
                client.outcome = Some(outcome);
            }
            gateway::Effect::Probe(node) => self.probe(me, node),
            gateway::Effect::Drained => {}
        }
    }

    fn deliver(&mut self, request: RequestId, items: Vec<Item>) {
        let client = self.clients.entry(request).or_default();
        assert_eq!(
            client.outcome, None,
            "law 1: nothing follows the outcome of {request}"
        );
        for item in items {
            if let Item::Token(record) = item {
                let output = client.output.entry(record.choice).or_default();
                assert_eq!(
                    record.index as usize,
                    output.len(),
                    "{request}: no token lost or doubled"
                );
                output.push(record.id);
            }
        }
    }

    fn router_effect(&mut self, me: NodeRef, effect: router::Effect) {
        match effect {
            router::Effect::Send(outgoing) => self.post(me, outgoing),
            router::Effect::Probe(node) => self.probe(me, node),
            router::Effect::Note(_) => {}
        }
    }

    fn worker_effect(&mut self, me: NodeRef, effect: worker::Effect) {
        match effect {
            worker::Effect::Send(outgoing) => self.post(me, outgoing),
            worker::Effect::Step(plan) => {
                let tokens: usize = plan.rows.iter().map(|r| r.tokens.len()).sum();
                let took = 200 + 20 * tokens as u64;
                self.push(self.now.after(took), Event::Step(me, plan));
            }
            worker::Effect::Take {
                take,
                ticket,
                owner,
                pieces,
                ..
            } => {
                let wait = 100 + self.rng.below(self.faults.take_us_max.max(1));
                let at = self.now.after(wait);
                self.push(
                    at,
                    Event::Land {
                        to: me,
                        take,
                        ticket,
                        owner,
                        pieces,
                    },
                );
            }
            worker::Effect::CancelTake(take) => {
                self.cancelled_takes.insert((me, take));
            }
            worker::Effect::Export { ticket, .. } => {
                if let Some(node) = self.nodes.get_mut(&me.node) {
                    node.exports.insert(ticket);
                }
            }
            worker::Effect::Revoke(ticket) => {
                if let Some(node) = self.nodes.get_mut(&me.node) {
                    node.exports.remove(&ticket);
                }
            }
            worker::Effect::Probe(node) => self.probe(me, node),
            worker::Effect::KnowPeer { .. }
            | worker::Effect::ForgetPeer(_)
            | worker::Effect::Drained => {}
        }
    }

    fn step(&mut self, me: NodeRef, plan: &StepPlan) {
        let tokens = self.block_tokens;
        let Some(node) = self.nodes.get_mut(&me.node).filter(|n| n.me == me) else {
            return;
        };
        let result = engine::run(plan, &mut node.memory, tokens);
        self.input_ref(me, Input::Stepped(result));
    }

    /// The bytes of a take arrive, also when it was cancelled meanwhile: an operation cannot be recalled.
    fn land(
        &mut self,
        to: NodeRef,
        take: u64,
        ticket: Ticket,
        owner: NodeRef,
        pieces: &[(SlotRef, SlotRef)],
    ) {
        let from = self
            .nodes
            .get(&owner.node)
            .filter(|n| n.me == owner && n.brain.is_some());
        let allowed = from.is_some_and(|n| n.exports.contains(&ticket));
        let late = self.rng.percent(self.faults.torn_percent);
        if let (true, Some(from)) = (allowed, from) {
            let bytes: Vec<(u32, Vec<u64>)> = pieces
                .iter()
                .map(|(a, b)| (b.slot, from.memory.read(a.slot)))
                .collect();
            if let Some(node) = self.nodes.get_mut(&to.node).filter(|n| n.me == to) {
                for (slot, states) in bytes {
                    node.memory.write(slot, states);
                }
            }
        }
        let cancelled = self.cancelled_takes.remove(&(to, take));
        if !cancelled {
            self.input_ref(
                to,
                Input::Taken {
                    take,
                    landed: allowed && !late,
                },
            );
        }
        let wait = self.rng.below(2000);
        self.push(self.now.after(wait), Event::Settle(to, take));
    }

    fn probe(&mut self, me: NodeRef, node: NodeRef) {
        // A frozen process keeps its subscription: the server finds somebody, who does not answer in time.
        let lives = self
            .nodes
            .get(&node.node)
            .is_some_and(|n| n.brain.is_some() && n.me == node);
        if !lives {
            self.push(self.now.after(300), Event::Gone { to: me, node });
        }
    }

    fn post(&mut self, from: NodeRef, outgoing: Outgoing) {
        let Outgoing {
            dest,
            meta,
            message,
        } = outgoing;
        assert_eq!(meta.from, from, "law 5: every letter names its sender");
        let targets: Vec<NodeId> = match dest {
            Dest::Node(node) => vec![node],
            Dest::Beats => self
                .nodes
                .keys()
                .copied()
                .filter(|n| *n != from.node)
                .collect(),
            Dest::Notices => self.named(|b| matches!(b, Brain::Router(_))),
            Dest::AnyRouter => {
                let routers = self.named(|b| matches!(b, Brain::Router(_)));
                if routers.is_empty() {
                    return;
                }
                let pick = self.rng.below(routers.len() as u64);
                routers
                    .into_iter()
                    .skip(usize::try_from(pick).unwrap_or(0))
                    .take(1)
                    .collect()
            }
        };
        for to in targets {
            if self.rng.percent(self.faults.lose_percent) {
                continue;
            }
            let copies = 1 + u64::from(self.rng.percent(self.faults.repeat_percent));
            for _ in 0..copies {
                let wait = 50 + self.rng.below(self.faults.delay_us_max.max(1));
                let letter = Event::Letter {
                    to,
                    meta,
                    message: message.clone(),
                };
                self.push(self.now.after(wait), letter);
            }
        }
    }

    fn named(&self, wanted: impl Fn(&Brain) -> bool) -> Vec<NodeId> {
        let is = |n: &Node| n.brain.as_ref().is_some_and(&wanted);
        self.nodes
            .iter()
            .filter(|(_, n)| is(n))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Workers' snapshots.
    #[must_use]
    pub fn workers(&self) -> Vec<worker::Snapshot> {
        self.nodes
            .values()
            .filter_map(|n| match &n.brain {
                Some(Brain::Worker(core)) => Some(core.snapshot()),
                Some(Brain::Gateway(_) | Brain::Router(_)) | None => None,
            })
            .collect()
    }

    /// Attempts that a request has had so far, if its gateway still holds it.
    #[must_use]
    pub fn attempt(&self, request: RequestId) -> Option<Attempt> {
        self.nodes.values().find_map(|n| match &n.brain {
            Some(Brain::Gateway(core)) => core
                .snapshot()
                .open
                .iter()
                .find(|o| o.request == request)
                .map(|o| o.attempt),
            Some(Brain::Router(_) | Brain::Worker(_)) | None => None,
        })
    }
}

fn handle<C: Core>(now: Micros, core: &mut C, input: C::Input) -> Vec<C::Effect> {
    let mut effects = Vec::new();
    core.handle(now, input, &mut effects);
    effects
}

fn expire<C: Core>(now: Micros, core: &mut C) -> Vec<C::Effect> {
    let mut effects = Vec::new();
    core.expire(now, &mut effects);
    effects
}

/// The node that must be running for an event to happen to it now.
const fn target(event: &Event) -> Option<NodeId> {
    match event {
        Event::Letter { to, .. } => Some(*to),
        Event::Wake(node) | Event::Step(node, _) | Event::Settle(node, _) => Some(node.node),
        Event::Land { to, .. } | Event::Gone { to, .. } => Some(to.node),
        Event::Submit { gateway, .. } | Event::Cancel { gateway, .. } => Some(*gateway),
        Event::Crash(_) | Event::Restart(_) | Event::Freeze(_) | Event::Thaw(_) => None,
    }
}

enum Effects {
    Gateway(Vec<gateway::Effect>),
    Router(Vec<router::Effect>),
    Worker(Vec<worker::Effect>),
}

/// An input of any role.
enum Input {
    Letter(Meta, AnyMessage),
    Submit(RequestSpec),
    Cancel(RequestId),
    Stepped(logic::batch::StepResult),
    Taken { take: u64, landed: bool },
    Settled(u64),
    Gone(NodeRef),
    Woke,
}

impl Input {
    fn for_gateway(self) -> Option<gateway::Input> {
        Some(match self {
            Self::Letter(meta, message) => gateway::Input::Letter(meta, message),
            Self::Submit(spec) => gateway::Input::Submit {
                spec,
                deadline_us: DEADLINE_US,
            },
            Self::Cancel(request) => gateway::Input::Cancel(request),
            Self::Gone(node) => gateway::Input::Gone(node),
            Self::Woke => gateway::Input::Woke,
            Self::Stepped(_) | Self::Taken { .. } | Self::Settled(_) => return None,
        })
    }

    fn for_router(self) -> Option<router::Input> {
        Some(match self {
            Self::Letter(meta, message) => router::Input::Letter(meta, message),
            Self::Gone(node) => router::Input::Gone(node),
            Self::Woke => router::Input::Woke,
            Self::Submit(_)
            | Self::Cancel(_)
            | Self::Stepped(_)
            | Self::Taken { .. }
            | Self::Settled(_) => return None,
        })
    }

    fn for_worker(self) -> Option<worker::Input> {
        Some(match self {
            Self::Letter(meta, message) => worker::Input::Letter(meta, message),
            Self::Stepped(result) => worker::Input::Stepped(result),
            Self::Taken { take, landed } => worker::Input::Taken { take, landed },
            Self::Settled(take) => worker::Input::Settled(take),
            Self::Gone(node) => worker::Input::Gone(node),
            Self::Woke => worker::Input::Woke,
            Self::Submit(_) | Self::Cancel(_) => return None,
        })
    }
}

/// Time that a simulated request may take: longer than any scenario's faults, so that a deadline is never the cure.
pub const DEADLINE_US: u64 = 60_000_000;
