//! A worker on a bench: letters in, effects out, time by hand.

use std::sync::Arc;

use bus_schemas::{
    Attempt, Epoch, Meta, NodeId, NodeRef, Placement, RequestId, RequestSpec, Role, Roles,
    Sampling, Stops, Ticket, Trace,
    messages::{Admit, AnyMessage, Beat, Intake, Load, Offer, Pass, Reserve, SlotRef},
};
use logic::{
    Core, Micros,
    batch::StepPlan,
    role::{
        Dest, Outgoing,
        worker::{Config, Effect, Input, Snapshot, Worker},
    },
    text::Vocabulary,
};

/// Tokens in a block.
pub(crate) const BLOCK: u32 = 4;
/// Blocks of the pool.
pub(crate) const SLOTS: u32 = 64;

#[derive(Debug)]
struct Words;

impl Vocabulary for Words {
    fn len(&self) -> u32 {
        1000
    }
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{id} ").as_bytes());
    }
    fn end_ids(&self) -> &[u32] {
        &[]
    }
}

/// A worker and its clock.
pub(crate) struct Bench {
    worker: Worker,
    pub(crate) now: Micros,
}

impl Bench {
    pub(crate) fn new(roles: Roles) -> Self {
        let config = Config {
            me: me(),
            roles,
            model: "m".into(),
            card: 7,
            slots: SLOTS,
            quarantined: Vec::new(),
            block_tokens: BLOCK,
            context_tokens: 200,
            vocabulary: Arc::new(Words),
            fabric: b"here".to_vec(),
            admin: String::new(),
            step_tokens_max: 64,
            chunk_tokens_max: 8,
            rows_max: 8,
            jobs_max: 8,
            expected_output: 4,
            drill_preempt_after: None,
            pass: Pass::default(),
            secret: [7; 32],
        };
        Self {
            worker: Worker::new(config),
            now: Micros(1_000_000),
        }
    }

    pub(crate) fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.worker.handle(self.now, input, &mut out);
        out
    }

    pub(crate) fn letter(
        &mut self,
        from: NodeRef,
        request: u128,
        message: impl Into<AnyMessage>,
    ) -> Vec<Effect> {
        let meta = Meta {
            from,
            to: me(),
            request: RequestId(request),
            attempt: Attempt(1),
            remaining_us: 60_000_000,
        };
        self.input(Input::Letter(meta, message.into()))
    }

    /// The bus brings a node its own beats, too.
    fn letter_of(&mut self, beat: Outgoing, out: &mut Vec<Effect>) {
        let input = Input::Letter(beat.meta, beat.message);
        self.worker.handle(self.now, input, out);
    }

    /// Time passes; what is due is done.
    pub(crate) fn pass(&mut self, us: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        let until = self.now.after(us);
        while let Some(at) = self.worker.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now.after(1));
            let said = out.len();
            self.worker.expire(self.now, &mut out);
            for beat in beats(&out[said..]) {
                self.letter_of(beat, &mut out);
            }
        }
        self.now = until;
        out
    }

    /// A node's beat.
    pub(crate) fn beat(&mut self, from: NodeRef) -> Vec<Effect> {
        let meta = Meta::node(from, NodeRef::NONE);
        self.input(Input::Letter(meta, beat().into()))
    }

    pub(crate) fn state(&self) -> Snapshot {
        self.worker.snapshot()
    }
}

pub(crate) fn node(name: &str) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("tests use valid names"),
        epoch: Epoch(1),
    }
}

pub(crate) fn me() -> NodeRef {
    node("w")
}

pub(crate) fn beat() -> Beat {
    Beat {
        roles: Roles::only(Role::Prefill),
        model: "m".to_owned(),
        card: 7,
        intake: Intake::Open,
        notice: 0,
        load: Load::default(),
        fabric: b"there".to_vec(),
        unreachable: Vec::new(),
        admin: String::new(),
    }
}

pub(crate) fn spec(request: u128, prompt: u32) -> RequestSpec {
    RequestSpec {
        request: RequestId(request),
        model: "m".into(),
        tenant: String::new(),
        salt: String::new(),
        prompt: (0..prompt).collect(),
        choices: 1,
        sampling: Sampling::greedy(),
        stops: Stops::default(),
        max_tokens: 4,
        priority: 0,
        trace: Trace::default(),
    }
}

/// Asks for memory for a prompt that `prefill` shall compute.
pub(crate) fn reserve(request: u128, prompt: u32, prefill: Option<NodeRef>) -> Reserve {
    Reserve {
        placement: Placement(1),
        gateway: node("g"),
        prefill,
        admit: Admit {
            spec: spec(request, prompt),
            emitted: vec![Vec::new()],
            ended: Vec::new(),
            avoid: Vec::new(),
            alone: false,
        },
    }
}

/// The last and only offer for a prompt of `tokens`.
pub(crate) fn offer(ticket: Ticket, tokens: u32) -> Offer {
    let slot = |slot| SlotRef {
        slot,
        generation: 1,
    };
    Offer {
        ticket,
        seq: 0,
        first_block: 0,
        blocks: (0..tokens.div_ceil(BLOCK)).map(slot).collect(),
        tokens,
        cached_tokens: 0,
        first_tokens: vec![bus_schemas::Record {
            choice: 0,
            index: 0,
            id: 5,
            logprob: 0.0,
            top: Vec::new(),
        }],
        last: true,
    }
}

pub(crate) fn letters(effects: &[Effect]) -> impl Iterator<Item = &Outgoing> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Send(outgoing) => Some(outgoing),
        _ => None,
    })
}

/// The ticket of the only `Prefill`, and to whom it went.
pub(crate) fn prefill(effects: &[Effect]) -> Option<(NodeRef, Ticket)> {
    letters(effects).find_map(|o| match &o.message {
        AnyMessage::Prefill(prefill) => Some((o.meta.to, prefill.ticket)),
        _ => None,
    })
}

pub(crate) fn takes(effects: &[Effect]) -> usize {
    let is_take = |e: &&Effect| matches!(e, Effect::Take { .. });
    effects.iter().filter(is_take).count()
}

pub(crate) fn step(effects: &[Effect]) -> Option<&StepPlan> {
    effects.iter().find_map(|effect| match effect {
        Effect::Step(plan) => Some(plan),
        _ => None,
    })
}

fn beats(effects: &[Effect]) -> Vec<Outgoing> {
    let of = |effect: &Effect| match effect {
        Effect::Send(outgoing) if outgoing.dest == Dest::Beats => Some(outgoing.clone()),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}
