//! A router on the bench: workers that beat, a gateway that asks, a clock that is set by hand.

use bus_schemas::{
    Attempt, Epoch, Meta, NodeId, NodeRef, Placement, RefuseReason, RequestId, RequestSpec, Role,
    Roles, Sampling, Stops,
    messages::{
        Admit, AnyMessage, Beat, Intake, Load, Notice, Promised, Refused, Rejected, Reserve,
    },
};
use logic::{
    Core, Micros,
    role::{
        Dest, Outgoing,
        router::{Config, Effect, Input, Router, Snapshot},
    },
};

pub(crate) const MODEL: &str = "m";
pub(crate) const BLOCK_TOKENS: u32 = 4;

pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) now: Micros,
}

impl Bench {
    pub(crate) fn new(local_prefill_max: u32) -> Self {
        let router = Router::new(Config::new(node("router"), local_prefill_max));
        Self {
            router,
            now: Micros(1_000_000),
        }
    }

    /// A bench with these workers; `d…` decode, `p…` prefill.
    pub(crate) fn with(workers: &[&str]) -> Self {
        let mut bench = Self::new(0);
        for worker in workers {
            bench.beat(node(worker), beat_of(worker));
        }
        bench
    }

    pub(crate) fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.router.handle(self.now, input, &mut out);
        out
    }

    /// The bus brings a node its own beats, too.
    fn letter_of(&mut self, beat: Outgoing, out: &mut Vec<Effect>) {
        let input = Input::Letter(beat.meta, beat.message);
        self.router.handle(self.now, input, out);
    }

    pub(crate) fn pass(&mut self, us: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        let end = self.now.after(us);
        while let Some(at) = self.router.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let said = out.len();
            self.router.expire(self.now, &mut out);
            for beat in beats(&out[said..]) {
                self.letter_of(beat, &mut out);
            }
        }
        self.now = end;
        out
    }

    pub(crate) fn letter(&mut self, meta: Meta, message: impl Into<AnyMessage>) -> Vec<Effect> {
        self.give(Input::Letter(meta, message.into()))
    }

    pub(crate) fn beat(&mut self, from: NodeRef, beat: Beat) -> Vec<Effect> {
        self.letter(Meta::node(from, NodeRef::NONE), beat)
    }

    pub(crate) fn notice(&mut self, from: NodeRef, notice: Notice) -> Vec<Effect> {
        self.letter(Meta::node(from, NodeRef::NONE), notice)
    }

    pub(crate) fn admit(&mut self, request: u128, attempt: u32, admit: Admit) -> Vec<Effect> {
        self.letter(meta(node("gateway"), request, attempt), admit)
    }

    pub(crate) fn promised(&mut self, from: &str, request: u128, placement: u32) -> Vec<Effect> {
        let promised = Promised {
            placement: Placement(placement),
            router: node("router"),
            blocks: 1,
        };
        self.letter(meta(node(from), request, 1), promised)
    }

    pub(crate) fn refused(
        &mut self,
        from: &str,
        request: u128,
        placement: u32,
        reason: RefuseReason,
    ) -> Vec<Effect> {
        let refused = Refused {
            placement: Placement(placement),
            reason,
        };
        self.letter(meta(node(from), request, 1), refused)
    }

    pub(crate) fn state(&self) -> Snapshot {
        self.router.snapshot()
    }
}

pub(crate) fn letters(effects: &[Effect]) -> impl Iterator<Item = &Outgoing> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Send(outgoing) if outgoing.dest != Dest::Beats => Some(outgoing),
        Effect::Send(_) | Effect::Probe(_) | Effect::Note(_) | Effect::Fact(_) => None,
    })
}

/// The only `Reserve`: to whom, under which placement, with which helper.
pub(crate) fn reserve(effects: &[Effect]) -> Option<(String, u32, Option<String>)> {
    let mut all = letters(effects).filter_map(|o| match &o.message {
        AnyMessage::Reserve(Reserve {
            placement, prefill, ..
        }) => Some((
            o.meta.to.node.to_string(),
            placement.0,
            prefill.map(|p| p.node.to_string()),
        )),
        _ => None,
    });
    let first = all.next();
    assert_eq!(all.next(), None, "one letter asks one worker");
    first
}

/// The only `Rejected`.
pub(crate) fn rejected(effects: &[Effect]) -> Option<RefuseReason> {
    letters(effects).find_map(|o| match &o.message {
        AnyMessage::Rejected(Rejected { reason, .. }) => {
            assert_eq!(o.meta.to, node("gateway"));
            Some(*reason)
        }
        _ => None,
    })
}

pub(crate) fn node(name: &str) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("a valid name"),
        epoch: Epoch(1),
    }
}

pub(crate) fn meta(from: NodeRef, request: u128, attempt: u32) -> Meta {
    Meta {
        from,
        to: node("router"),
        request: RequestId(request),
        attempt: Attempt(attempt),
        remaining_us: 60_000_000,
    }
}

/// A prompt of 41 tokens: ten full blocks and one more token.
pub(crate) fn admit(request: u128) -> Admit {
    let spec = RequestSpec {
        request: RequestId(request),
        model: MODEL.to_owned(),
        tenant: String::new(),
        salt: String::new(),
        prompt: (0..41).collect(),
        choices: 1,
        sampling: Sampling::default(),
        stops: Stops::default(),
        max_tokens: 16,
        priority: 0,
        trace: bus_schemas::Trace::default(),
    };
    Admit {
        spec,
        emitted: vec![vec![]],
        ended: vec![],
        avoid: vec![],
        alone: false,
    }
}

pub(crate) fn beat_of(worker: &str) -> Beat {
    let role = if worker.starts_with('p') {
        Role::Prefill
    } else {
        Role::Decode
    };
    Beat {
        roles: Roles::only(role),
        model: MODEL.to_owned(),
        card: 1,
        intake: Intake::Open,
        notice: 0,
        load: Load {
            blocks_total: 1000,
            blocks_free: 1000,
            block_tokens: BLOCK_TOKENS,
            ..Load::default()
        },
        fabric: Vec::new(),
        unreachable: Vec::new(),
        admin: String::new(),
    }
}

fn beats(effects: &[Effect]) -> Vec<Outgoing> {
    let of = |effect: &Effect| match effect {
        Effect::Send(outgoing) if outgoing.dest == Dest::Beats => Some(outgoing.clone()),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}
