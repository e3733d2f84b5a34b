//! The whole cluster in one thread: nodes, bus and fabric under virtual time.
//!
//! Every node runs the very core of production. The bus loses, repeats and delays; nodes crash, restart, freeze
//! and thaw; takes finish late. Same seed, same trace. Nothing here reads a clock or decides for a core.

mod effects;
mod event;
mod input;
mod node;
mod post;

use std::collections::{BTreeMap, BTreeSet};

use bus_schemas::{Attempt, Epoch, NodeId, NodeRef, Outcome, RequestId, RequestSpec};
use logic::{
    Core, Micros,
    role::{gateway, worker},
};

use self::{
    event::Event,
    input::{Effects, Input},
};
pub use self::{
    input::DEADLINE_US,
    node::{Brain, Node, Recipe},
};
use crate::{engine::Memory, faults::Faults, rng::Rng};

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

/// Gets a line for every event, before it happens.
pub type Log = Box<dyn FnMut(String)>;

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
    /// Traces and their spans that were begun.
    spans: BTreeSet<(u128, u64)>,
    /// The bus brings nothing before this moment.
    held_until: Micros,
    serial: u64,
    rng: Rng,
    block_tokens: usize,
    log: Option<Log>,
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
    /// An empty cluster. `log` gets a line for every event.
    #[must_use]
    pub fn new(seed: u64, faults: Faults, block_tokens: usize, log: Option<Log>) -> Self {
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
            spans: BTreeSet::new(),
            held_until: Micros(0),
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

    /// The bus stands still from `at` for `for_us`, then brings what it was given meanwhile.
    pub fn hold_bus(&mut self, at: Micros, for_us: u64) {
        self.push(at, Event::HoldBus(at.after(for_us)));
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
            if let Some(log) = &mut self.log {
                log(format!("{:>9} {event:?}", at.0));
            }
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = event.target()
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
            Event::HoldBus(until) => self.held_until = self.held_until.max(until),
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

    /// Gateways' snapshots.
    #[must_use]
    pub fn gateways(&self) -> Vec<gateway::Snapshot> {
        self.nodes
            .values()
            .filter_map(|n| match &n.brain {
                Some(Brain::Gateway(core)) => Some(core.snapshot()),
                Some(Brain::Router(_) | Brain::Worker(_)) | None => None,
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
