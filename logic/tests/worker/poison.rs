//! A request under which two owners died: it runs alone, or not here.

use bus_schemas::{
    Epoch, NodeRef, RefuseReason, Roles, Ticket,
    messages::{AnyMessage, Intake, Prefill, Reserve},
};
use logic::role::worker::Effect;

use crate::bench::{Bench, letters, node, reserve, spec};

#[test]
fn it_is_taken_by_an_empty_worker_only() {
    let mut bench = Bench::new(Roles::WORKER);
    assert_eq!(
        refused(&bench.letter(node("r"), 1, reserve(1, 8, None))),
        None
    );
    let crowded = bench.letter(node("r"), 2, alone(2));
    assert_eq!(refused(&crowded), Some(RefuseReason::Full));
    assert_eq!(bench.state().jobs.len(), 1);
}

#[test]
fn nothing_is_taken_beside_it() {
    let mut bench = Bench::new(Roles::WORKER);
    assert_eq!(refused(&bench.letter(node("r"), 1, alone(1))), None);
    let beside = bench.letter(node("r"), 2, reserve(2, 8, None));
    assert_eq!(refused(&beside), Some(RefuseReason::Full));
    let prefill = Prefill {
        ticket: Ticket([1; 16]),
        spec: spec(3, 8),
        emitted: vec![Vec::new()],
        ended: Vec::new(),
        from_block: 0,
    };
    let beside = bench.letter(node("d"), 3, prefill);
    assert_eq!(refused(&beside), Some(RefuseReason::Full));
    let state = bench.state();
    assert_eq!((state.jobs.len(), state.sources.len()), (1, 0));
}

#[test]
fn routers_are_told_that_it_takes_no_other() {
    let mut bench = Bench::new(Roles::WORKER);
    assert_eq!(told(&bench.pass(1_000_000)), Some(Intake::Open));
    bench.letter(node("r"), 1, alone(1));
    assert_eq!(told(&bench.pass(1_000_000)), Some(Intake::Cordoned));
}

#[test]
fn it_does_not_outlive_a_gateway_that_was_restarted() {
    let mut bench = Bench::new(Roles::WORKER);
    let restarted = NodeRef {
        epoch: Epoch(2),
        ..node("g")
    };
    bench.beat(restarted);
    bench.letter(node("r"), 1, alone(1)); // it still names the gateway's first epoch
    for _ in 0..20 {
        bench.pass(250_000);
        bench.beat(restarted);
    }
    assert!(bench.state().jobs.is_empty());
}

/// What the last beat said.
fn told(effects: &[Effect]) -> Option<Intake> {
    let beats = letters(effects).filter_map(|o| match &o.message {
        AnyMessage::Beat(beat) => Some(beat.intake),
        _ => None,
    });
    beats.last()
}

fn alone(request: u128) -> Reserve {
    let mut reserve = reserve(request, 8, None);
    reserve.admit.alone = true;
    reserve
}

fn refused(effects: &[Effect]) -> Option<RefuseReason> {
    letters(effects).find_map(|o| match &o.message {
        AnyMessage::Refused(refused) => Some(refused.reason),
        AnyMessage::PrefillRefused(refused) => Some(refused.reason),
        _ => None,
    })
}
