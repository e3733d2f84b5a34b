//! One seeded day of a cluster: it is hurt, then left alone, and then everything must have come to rest.
//!
//! After the day: every request has an outcome or a broken connection, every completed one has exactly the
//! expected tokens, and every block of every live worker is free or cached.

use std::sync::Arc;

use bus_schemas::{
    NodeId, NodeRef, Outcome, RequestId, RequestSpec, Roles, Sampling, Stops, Trace, messages::Pass,
};
use logic::{
    Micros,
    role::{gateway, router, worker},
    text::Vocabulary,
};

use crate::{
    engine::{END, VOCABULARY, expected},
    faults::Faults,
    rng::Rng,
    world::{Brain, Log, World},
};

/// Tokens in a simulated block: small, so that short prompts have several.
pub const BLOCK_TOKENS: u32 = 4;
/// While faults happen.
const STORM_US: u64 = 6_000_000;
/// Until everything must have come to rest: the storm, the longest deadline of a request, a lease and a grace.
const REST_US: u64 = STORM_US + crate::world::DEADLINE_US + 10_000_000;

#[derive(Debug)]
struct Words;

impl Vocabulary for Words {
    fn len(&self) -> u32 {
        VOCABULARY
    }
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{id} ").as_bytes());
    }
    fn end_ids(&self) -> &[u32] {
        &[END]
    }
}

/// What a day was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events handled.
    pub events: u64,
    /// Digest of the order of all events.
    pub trace: u64,
    /// Requests that completed.
    pub completed: usize,
    /// Requests that ended otherwise.
    pub otherwise: usize,
    /// Requests whose gateway died.
    pub broken: usize,
    /// Blocks moved between workers.
    pub blocks_taken: u64,
    /// Prefills asked of a second worker because the first refused.
    pub asked_again: u64,
    /// Choices preempted.
    pub preemptions: u64,
    /// Owners that a gateway took for lost.
    pub owners_lost: u64,
    /// Requests that workers let go: cancelled, or their gateway taken for lost.
    pub let_go: u64,
    /// What is wrong; nothing is the only good answer.
    pub faults: Vec<String>,
}

/// What a day's cluster looks like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    gateways: u64,
    routers: u64,
    prefills: u64,
    decodes: u64,
    workers: u64,
    slots: u32,
    local_prefill_max: u32,
    requests: u64,
    drill: Option<u32>,
}

impl Shape {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            gateways: 1 + rng.below(2),
            routers: 1 + rng.below(2),
            prefills: rng.below(3),
            decodes: 1 + rng.below(2),
            workers: rng.below(2),
            slots: u32::try_from(24 + rng.below(60)).unwrap_or(24),
            local_prefill_max: if rng.percent(60) { 0 } else { 12 },
            requests: 4 + rng.below(30),
            drill: rng.percent(30).then_some(3),
        }
    }
}

/// Lives through the day of a seed. `log` gets a line for every event.
#[must_use]
pub fn live(seed: u64, log: Option<Log>) -> Report {
    let mut rng = Rng::new(seed);
    let faults = if rng.percent(10) {
        Faults::none()
    } else {
        Faults::draw(&mut rng)
    };
    let shape = Shape::draw(&mut rng);
    let mut world = World::new(rng.next(), faults, BLOCK_TOKENS as usize, log);
    let gateways = build(&mut world, shape);
    let specs = load(&mut world, &mut rng, shape, &gateways);
    hurt(&mut world, &mut rng);
    world.run(Micros(STORM_US));
    world.faults = Faults::none();
    world.run(Micros(REST_US));
    report(seed, &world, &specs)
}

/// A day without any fault but one: the bus stands still for `for_us` while requests run.
#[must_use]
pub fn with_held_bus(seed: u64, for_us: u64) -> Report {
    let mut rng = Rng::new(seed);
    let mut world = World::new(rng.next(), Faults::none(), BLOCK_TOKENS as usize, None);
    let shape = Shape {
        prefills: 1,
        slots: 600,
        drill: None,
        requests: 40, // one worker promises no more at once
        ..Shape::draw(&mut rng)
    };
    let gateways = build(&mut world, shape);
    let at = Micros(3_000_000 + rng.below(500_000));
    let mut specs = Vec::new();
    for number in 0..shape.requests {
        let spec = spec_of(&mut rng, number);
        let sent = Micros(at.0 - 5_000 - rng.below(20_000));
        world.submit(sent, gateways[0], spec.clone());
        specs.push(spec);
    }
    world.hold_bus(at, for_us);
    world.run(Micros(REST_US));
    report(seed, &world, &specs)
}

fn build(world: &mut World, shape: Shape) -> Vec<NodeId> {
    let mut gateways = Vec::new();
    for i in 0..shape.gateways {
        gateways.push(world.add(&format!("gateway-{i}"), Box::new(gateway_of)));
    }
    for i in 0..shape.routers {
        let recipe = move |me| router_of(me, shape.local_prefill_max);
        world.add(&format!("router-{i}"), Box::new(recipe));
    }
    let kinds = [
        (
            "prefill",
            shape.prefills,
            Roles::only(bus_schemas::Role::Prefill),
        ),
        (
            "decode",
            shape.decodes,
            Roles::only(bus_schemas::Role::Decode),
        ),
        ("worker", shape.workers, Roles::WORKER),
    ];
    for (name, count, roles) in kinds {
        for i in 0..count {
            world.add(
                &format!("{name}-{i}"),
                Box::new(move |me| worker_of(me, roles, shape)),
            );
        }
    }
    gateways
}

fn gateway_of(me: NodeRef) -> Brain {
    let config = gateway::Config {
        me,
        open_max: 1000,
        patience_us: 3_000_000,
        migrations_max: 100, // a storm kills more than a good day does; the limit has its own test
        admin: String::new(),
    };
    Brain::Gateway(Box::new(gateway::Gateway::new(config)))
}

fn router_of(me: NodeRef, local_prefill_max: u32) -> Brain {
    Brain::Router(Box::new(router::Router::new(router::Config::new(
        me,
        local_prefill_max,
    ))))
}

fn worker_of(me: NodeRef, roles: Roles, shape: Shape) -> Brain {
    let config = worker::Config {
        me,
        roles,
        model: "m".into(),
        card: 7,
        slots: shape.slots,
        quarantined: Vec::new(),
        block_tokens: BLOCK_TOKENS,
        context_tokens: 200,
        vocabulary: Arc::new(Words),
        fabric: me.node.to_string().into_bytes(),
        admin: String::new(),
        step_tokens_max: 32,
        chunk_tokens_max: 8,
        rows_max: 8,
        jobs_max: 64,
        expected_output: 4,
        drill_preempt_after: shape.drill,
        pass: Pass {
            a: 200.0,
            c: 20.0,
            d: 1.0,
            e: 20.0,
        },
        secret: [7; 32],
    };
    Brain::Worker(Box::new(worker::Worker::new(config)))
}

/// Requests at random moments; some share a prefix, some have several choices, some clients leave.
fn load(world: &mut World, rng: &mut Rng, shape: Shape, gateways: &[NodeId]) -> Vec<RequestSpec> {
    let mut specs = Vec::new();
    for i in 0..shape.requests {
        let spec = spec_of(rng, i);
        let pick = usize::try_from(rng.below(gateways.len() as u64)).unwrap_or(0);
        let at = Micros(600_000 + rng.below(STORM_US - 1_000_000));
        if rng.percent(20) {
            world.cancel(at.after(rng.below(2_000_000)), gateways[pick], spec.request);
        }
        world.submit(at, gateways[pick], spec.clone());
        specs.push(spec);
    }
    specs
}

fn spec_of(rng: &mut Rng, number: u64) -> RequestSpec {
    let shared = rng.percent(50);
    let len = 1 + rng.below(40);
    let prompt = (0..len)
        .map(|p| {
            let from = if shared && p < 20 { p } else { rng.next() };
            u32::try_from(from % 900).unwrap_or(0)
        })
        .collect();
    RequestSpec {
        request: RequestId(u128::from(number) + 1),
        model: "m".into(),
        tenant: String::new(),
        salt: String::new(),
        prompt,
        choices: if rng.percent(20) {
            1 + u16::try_from(rng.below(3)).unwrap_or(0)
        } else {
            1
        },
        sampling: Sampling {
            seed: rng.next(),
            ..Sampling::greedy()
        },
        stops: Stops::default(),
        max_tokens: u32::try_from(1 + rng.below(20)).unwrap_or(1),
        priority: 0,
        trace: Trace::default(),
    }
}

/// Crashes and freezes, of any node; on some days of the bus.
fn hurt(world: &mut World, rng: &mut Rng) {
    if rng.percent(20) {
        let at = Micros(500_000 + rng.below(STORM_US - 1_000_000));
        world.hold_bus(at, 1 + rng.below(5_000_000));
    }
    let names: Vec<NodeId> = world.nodes.keys().copied().collect();
    for _ in 0..rng.below(5) {
        let node = names[usize::try_from(rng.below(names.len() as u64)).unwrap_or(0)];
        let at = Micros(500_000 + rng.below(STORM_US - 1_000_000));
        if rng.percent(50) {
            world.crash(at, node, 1 + rng.below(3_000_000));
        } else {
            world.freeze(at, node, 1 + rng.below(5_000_000));
        }
    }
}

fn report(seed: u64, world: &World, specs: &[RequestSpec]) -> Report {
    let mut report = Report {
        seed,
        events: world.events,
        trace: world.trace,
        completed: 0,
        otherwise: 0,
        broken: 0,
        blocks_taken: 0,
        asked_again: 0,
        preemptions: 0,
        owners_lost: world
            .gateways()
            .iter()
            .map(|g| g.counters.owners_lost)
            .sum(),
        let_go: 0,
        faults: Vec::new(),
    };
    for spec in specs {
        judge(world, spec, &mut report);
    }
    for worker in world.workers() {
        let name = worker.me.node;
        report.blocks_taken += worker.counters.blocks_taken;
        report.asked_again += worker.counters.asked_again;
        report.preemptions += worker.counters.preemptions;
        report.let_go += worker.counters.let_go;
        let counts = worker.audit.counts;
        if counts.free + counts.cached != counts.total {
            report
                .faults
                .push(format!("{name}: blocks unaccounted at rest: {counts:?}"));
        }
        if let Some(fault) = worker.audit.fault {
            report.faults.push(format!("{name}: {fault}"));
        }
        if !worker.jobs.is_empty() || !worker.sources.is_empty() {
            report.faults.push(format!(
                "{name}: still holds {:?} {:?}",
                worker.jobs, worker.sources
            ));
        }
    }
    report
}

fn judge(world: &World, spec: &RequestSpec, report: &mut Report) {
    let request = spec.request;
    let Some(client) = world.clients.get(&request) else {
        report.broken += 1; // its gateway was frozen when it came, and then died
        return;
    };
    for choice in 0..spec.choices {
        let want = expected(&spec.prompt, spec.sampling.seed, choice, spec.max_tokens);
        let got = client.output.get(&choice).cloned().unwrap_or_default();
        let whole = client.outcome == Some(Outcome::Completed);
        if (whole && got != want) || !want.starts_with(&got) {
            report.faults.push(format!(
                "{request} choice {choice}: got {got:?}, want {want:?}"
            ));
        }
    }
    match client.outcome {
        Some(Outcome::Completed) => report.completed += 1,
        Some(_) => report.otherwise += 1,
        None if client.broken => report.broken += 1,
        None => report.faults.push(format!("{request}: no outcome")),
    }
}
