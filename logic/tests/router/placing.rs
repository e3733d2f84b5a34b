//! Admissions: placed, repeated, refused, rejected, booked, explained.

use bus_schemas::{
    Attempt, Placement, RefuseReason, RequestId,
    limits::{BEAT_US, LEASE_US},
    messages::{Admit, Change, Intake, Notice},
};
use logic::role::router::Input;

use crate::bench::{Bench, admit, beat_of, meta, node, rejected, reserve};

#[test]
fn an_admission_becomes_a_reserve_for_a_pair() {
    let mut bench = Bench::with(&["d1", "p1"]);
    let out = bench.admit(7, 1, admit(7));
    assert_eq!(
        reserve(&out),
        Some(("d1".to_owned(), 1, Some("p1".to_owned())))
    );
    let state = bench.state();
    assert_eq!(
        (state.placing, state.bookings, state.counters.placed),
        (1, 1, 1)
    );
    let decision = &state.decisions[0];
    assert_eq!(
        (decision.decode, decision.prefill),
        (node("d1"), Some(node("p1")))
    );
    assert!(!decision.explained.is_empty());
}

#[test]
fn a_repeated_admission_repeats_the_same_reserve_also_after_the_promise() {
    let mut bench = Bench::with(&["d1", "d2", "d3"]);
    let first = reserve(&bench.admit(7, 1, admit(7)));
    for _ in 0..5 {
        assert_eq!(reserve(&bench.admit(7, 1, admit(7))), first);
    }
    let (owner, placement, _) = first.clone().expect("it was placed");
    bench.promised(&owner, 7, placement);
    assert_eq!(bench.state().placing, 0);
    assert_eq!(reserve(&bench.admit(7, 1, admit(7))), first);
    assert_eq!(
        (bench.state().placing, bench.state().counters.placed),
        (0, 1)
    );
}

#[test]
fn a_refusal_goes_to_another_worker_under_the_next_number() {
    let mut bench = Bench::with(&["d1", "d2"]);
    let (first, _, _) = reserve(&bench.admit(7, 1, admit(7))).expect("it was placed");
    let out = bench.refused(&first, 7, 1, RefuseReason::Full);
    let (second, placement, _) = reserve(&out).expect("another is there");
    assert_ne!(second, first);
    assert_eq!((placement, bench.state().bookings), (2, 1));
    let out = bench.refused(&first, 7, 1, RefuseReason::Full);
    assert!(out.is_empty(), "an old refusal is not heard again");
    let out = bench.refused(&second, 7, 2, RefuseReason::Full);
    assert_eq!(rejected(&out), Some(RefuseReason::Full));
    assert_eq!((bench.state().placing, bench.state().bookings), (0, 0));
}

#[test]
fn only_so_many_workers_are_asked() {
    let workers = ["d1", "d2", "d3", "d4", "d5", "d6"];
    let mut bench = Bench::with(&workers);
    let mut out = bench.admit(7, 1, admit(7));
    let mut asked = 0;
    while let Some((worker, placement, _)) = reserve(&out) {
        asked += 1;
        out = bench.refused(&worker, 7, placement, RefuseReason::Full);
    }
    assert_eq!((asked, rejected(&out)), (4, Some(RefuseReason::Full)));
}

#[test]
fn what_no_worker_can_change_is_rejected_at_once() {
    for reason in [RefuseReason::Invalid, RefuseReason::Expired] {
        let mut bench = Bench::with(&["d1", "d2"]);
        let (worker, ..) = reserve(&bench.admit(7, 1, admit(7))).expect("it was placed");
        assert_eq!(
            rejected(&bench.refused(&worker, 7, 1, reason)),
            Some(reason)
        );
    }
}

#[test]
fn the_reason_of_a_rejection_says_what_is_wrong() {
    use RefuseReason::{Draining, Expired, Invalid, NoCapacity, TooLarge};
    let reason = |workers: &[&str], change: fn(&mut Admit)| {
        let mut admit = admit(7);
        change(&mut admit);
        rejected(&Bench::with(workers).admit(7, 1, admit))
    };
    assert_eq!(reason(&[], |_| ()), Some(NoCapacity));
    assert_eq!(reason(&["p1"], |_| ()), Some(NoCapacity));
    assert_eq!(
        reason(&["d1"], |a| a.spec.model.push('x')),
        Some(NoCapacity)
    );
    assert_eq!(
        reason(&["d1"], |a| a.spec.prompt = vec![1; 4001]),
        Some(TooLarge)
    );
    assert_eq!(reason(&["d1"], |a| a.spec.prompt.clear()), Some(Invalid));
    assert_eq!(
        reason(&["d1"], |a| a.spec.request = RequestId(8)),
        Some(Invalid)
    );
    assert_eq!(reason(&["d1"], |a| a.emitted.clear()), Some(Invalid));
    assert_eq!(reason(&["d1"], |a| a.ended = vec![0]), Some(Invalid));
    let mut bench = Bench::with(&["d1"]);
    let late = meta(node("gateway"), 7, 1);
    let late = bus_schemas::Meta {
        remaining_us: 0,
        ..late
    };
    assert_eq!(rejected(&bench.letter(late, admit(7))), Some(Expired));
    bench.give(Input::Drain);
    assert_eq!(rejected(&bench.admit(7, 1, admit(7))), Some(Draining));
}

#[test]
fn workers_that_take_nothing_are_not_asked() {
    for (intake, reason) in [
        (Intake::Cordoned, RefuseReason::NoCapacity),
        (Intake::Draining, RefuseReason::Draining),
    ] {
        let mut bench = Bench::with(&["d2"]);
        bench.beat(
            node("d1"),
            bus_schemas::messages::Beat {
                intake,
                ..beat_of("d1")
            },
        );
        for request in 1..20 {
            let (owner, ..) = reserve(&bench.admit(request, 1, admit(request))).expect("d2");
            assert_eq!(owner, "d2");
        }
        bench.beat(
            node("d2"),
            bus_schemas::messages::Beat {
                intake,
                ..beat_of("d2")
            },
        );
        assert_eq!(rejected(&bench.admit(99, 1, admit(99))), Some(reason));
    }
}

#[test]
fn an_older_attempt_is_stale_and_a_newer_one_replaces_it() {
    let mut bench = Bench::with(&["d1"]);
    assert!(reserve(&bench.admit(7, 1, admit(7))).is_some());
    assert!(reserve(&bench.admit(7, 2, admit(7))).is_some());
    assert_eq!(bench.state().placing, 1);
    assert!(bench.admit(7, 1, admit(7)).is_empty());
    assert_eq!(bench.state().counters.stale, 1);
}

#[test]
fn bookings_spread_what_no_beat_shows_yet() {
    let mut bench = Bench::with(&["d1", "d2"]);
    let mut owners: Vec<String> = (0..2)
        .filter_map(|r| Some(reserve(&bench.admit(r, 1, admit(r)))?.0))
        .collect();
    owners.sort();
    assert_eq!(owners, ["d1", "d2"]);
}

#[test]
fn bookings_and_unanswered_attempts_end_with_a_lease_and_covered_ones_sooner() {
    let mut bench = Bench::with(&["d1"]);
    bench.pass(0);
    bench.admit(7, 1, admit(7));
    bench.admit(8, 1, admit(8));
    let covered = Change::Covered {
        request: RequestId(7),
        attempt: Attempt(1),
        placement: Placement(1),
    };
    bench.notice(
        node("d1"),
        Notice {
            first: 1,
            changes: vec![covered],
        },
    );
    bench.pass(BEAT_US);
    assert_eq!(bench.state().bookings, 1);
    // The worker lives and beats, but never answers.
    for _ in 0..LEASE_US / BEAT_US {
        bench.pass(BEAT_US);
        bench.beat(
            node("d1"),
            bus_schemas::messages::Beat {
                notice: 1,
                ..beat_of("d1")
            },
        );
    }
    assert_eq!(
        bench.state().nodes.len(),
        2,
        "the worker and the router itself"
    );
    assert_eq!((bench.state().bookings, bench.state().placing), (0, 0));
}

#[test]
fn a_model_of_which_nobody_was_ever_heard_is_unknown_and_one_whose_workers_are_gone_is_not() {
    let mut bench = Bench::with(&["d1"]);
    let mut other = admit(7);
    other.spec.model.push('x');
    assert_eq!(
        rejected(&bench.admit(7, 1, other.clone())),
        Some(RefuseReason::NoCapacity),
        "it has only just begun to listen"
    );
    bench.pass(LEASE_US);
    assert_eq!(
        rejected(&bench.admit(7, 2, other)),
        Some(RefuseReason::UnknownModel)
    );
    assert_eq!(
        rejected(&bench.admit(8, 1, admit(8))),
        Some(RefuseReason::NoCapacity)
    );
}

#[test]
fn decisions_are_kept_up_to_a_bound() {
    let mut bench = Bench::with(&["d1"]);
    for request in 0..1100 {
        bench.admit(request, 1, admit(request));
        bench.promised("d1", request, 1);
    }
    let decisions = bench.state().decisions;
    assert_eq!(decisions.len(), 1024);
    assert_eq!(decisions.last().map(|d| d.request), Some(RequestId(1099)));
}

#[test]
fn a_letter_for_another_incarnation_is_stale() {
    let mut bench = Bench::with(&["d1"]);
    for name in ["router", "other"] {
        let mut meta = meta(node("gateway"), 7, 1);
        meta.to = bus_schemas::NodeRef {
            epoch: bus_schemas::Epoch(9),
            ..node(name)
        };
        assert!(bench.letter(meta, admit(7)).is_empty());
    }
    assert_eq!(bench.state().counters.stale, 2);
}
