//! The gateway's core, driven letter by letter: a request under which owners die.

use bus_schemas::{
    Attempt, Epoch, FailReason, Meta, NodeId, NodeRef, Outcome, Placement, RefuseReason, RequestId,
    RequestSpec, Role, Roles, Sampling, Stops, Trace,
    messages::{AnyMessage, Beat, Intake, Load, Promised, Rejected, Stream, Tokens},
    spec::{Item, Record},
};
use logic::{
    Core, Micros,
    role::gateway::{Config, Effect, Gateway, Input},
};

const REQUEST: RequestId = RequestId(1);
/// How long this gateway tries a request that found everything full.
const PATIENCE_US: u64 = 5_000_000;
const DEADLINE_US: u64 = 600_000_000;

#[test]
fn a_request_that_killed_two_workers_and_finds_none_empty_ends_though_it_has_output() {
    let mut gateway = gateway();
    let mut bench = Bench {
        now: Micros(1_000_000),
        gateway: &mut gateway,
    };
    let mut attempt = admitted(&bench.input(Input::Submit {
        spec: spec(),
        deadline_us: DEADLINE_US,
    }));
    for owner in ["w1", "w2"] {
        let owner = node(owner);
        bench.beat(owner);
        bench.letter(
            owner,
            attempt.0,
            Promised {
                placement: Placement(1),
                router: node("r"),
                blocks: 1,
            },
        );
        bench.letter(
            owner,
            attempt.0,
            token(attempt.0, u32::from(owner == node("w2"))),
        );
        attempt = admitted(&bench.input(Input::Gone(owner)));
    }
    assert!(attempt.1, "it runs alone from now on");
    let begun = bench.now;
    let outcome = bench.refused_until_it_ends(attempt.0);
    assert_eq!(outcome, Outcome::Failed(FailReason::WorkerLost));
    assert!(
        bench.now.since(begun) < 2 * PATIENCE_US,
        "long before its deadline"
    );
}

#[test]
fn models_are_told_when_workers_come_and_go_and_not_with_every_beat() {
    let mut gateway = gateway();
    let mut bench = Bench {
        gateway: &mut gateway,
        now: Micros(1),
    };
    let told = |out: &[Effect]| -> Vec<Vec<(String, u64)>> {
        let models = out.iter().filter_map(|effect| match effect {
            Effect::Models(models) => Some(models.clone()),
            _ => None,
        });
        models.collect()
    };
    let one = vec![("m".to_owned(), 7)];
    let (first, second) = (node("d1"), node("d2"));
    assert_eq!(told(&bench.beat(first)), std::slice::from_ref(&one));
    assert_eq!(told(&bench.beat(first)), [] as [Vec<_>; 0]);
    assert_eq!(told(&bench.beat(second)), std::slice::from_ref(&one));
    assert_eq!(told(&bench.input(Input::Gone(first))), [one]);
    assert_eq!(told(&bench.input(Input::Gone(second))), [vec![]]);
}

fn gateway() -> Gateway {
    Gateway::new(Config {
        me: node("g"),
        open_max: 8,
        patience_us: PATIENCE_US,
        migrations_max: 3,
        admin: String::new(),
    })
}

struct Bench<'a> {
    gateway: &'a mut Gateway,
    now: Micros,
}

impl Bench<'_> {
    fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &mut out);
        out
    }

    fn letter(
        &mut self,
        from: NodeRef,
        attempt: Attempt,
        message: impl Into<AnyMessage>,
    ) -> Vec<Effect> {
        let meta = Meta {
            from,
            to: node("g"),
            request: REQUEST,
            attempt,
            remaining_us: DEADLINE_US,
        };
        self.input(Input::Letter(meta, message.into()))
    }

    fn beat(&mut self, from: NodeRef) -> Vec<Effect> {
        let beat = Beat {
            roles: Roles::only(Role::Decode),
            model: "m".to_owned(),
            card: 7,
            intake: Intake::Open,
            notice: 0,
            load: Load::default(),
            fabric: Vec::new(),
            unreachable: Vec::new(),
            admin: String::new(),
        };
        self.input(Input::Letter(Meta::node(from, NodeRef::NONE), beat.into()))
    }

    /// A router answers every attempt that no worker has room, until the request has its outcome.
    fn refused_until_it_ends(&mut self, mut attempt: Attempt) -> Outcome {
        loop {
            let full = Rejected {
                reason: RefuseReason::Full,
                retry_after_ms: 100,
            };
            let mut out = self.letter(node("r"), attempt, full);
            while admits(&out).next().is_none() {
                if let Some(outcome) = ended(&out) {
                    return outcome;
                }
                self.now = self
                    .gateway
                    .deadline()
                    .expect("it is not over")
                    .max(self.now.after(1));
                out.clear();
                self.gateway.expire(self.now, &mut out);
            }
            attempt = admitted(&out).0;
        }
    }
}

fn ended(effects: &[Effect]) -> Option<Outcome> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ended { outcome, .. } => Some(*outcome),
        _ => None,
    })
}

fn admits(effects: &[Effect]) -> impl Iterator<Item = (Attempt, bool)> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Send(letter) => match &letter.message {
            AnyMessage::Admit(admit) => Some((letter.meta.attempt, admit.alone)),
            _ => None,
        },
        _ => None,
    })
}

/// The attempt that was admitted, and whether it must run alone.
fn admitted(effects: &[Effect]) -> (Attempt, bool) {
    admits(effects).next().expect("it is admitted")
}

fn token(attempt: Attempt, index: u32) -> Tokens {
    let record = Record {
        choice: 0,
        index,
        id: 7,
        logprob: 0.0,
        top: Vec::new(),
    };
    Tokens {
        streams: vec![Stream {
            request: REQUEST,
            attempt,
            placement: Placement(1),
            first: 0,
            items: vec![Item::Token(record)],
            cached_tokens: 0,
            last: false,
            failed: false,
        }],
    }
}

fn spec() -> RequestSpec {
    RequestSpec {
        request: REQUEST,
        model: "m".into(),
        tenant: String::new(),
        salt: String::new(),
        prompt: (0..8).collect(),
        choices: 1,
        sampling: Sampling::greedy(),
        stops: Stops::default(),
        max_tokens: 4,
        priority: 0,
        trace: Trace::default(),
    }
}

fn node(name: &str) -> NodeRef {
    NodeRef {
        node: NodeId::new(name).expect("tests use valid names"),
        epoch: Epoch(1),
    }
}
