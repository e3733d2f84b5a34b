//! Another prefill worker for an owner whose first one refused.

use bus_schemas::{
    Epoch, NodeRef, Placement,
    messages::{AnyMessage, FindPrefill},
};
use logic::role::router::Effect;

use crate::bench::{Bench, admit, letters, meta, node, reserve};

#[test]
fn an_owner_is_told_of_another_and_the_decision_shows_it() {
    let mut bench = Bench::with(&["d1", "p1", "p2"]);
    let (_, _, first) = reserve(&bench.admit(7, 1, admit(7))).expect("it was placed");
    let first = node(&first.expect("a pair"));
    let other = if first == node("p1") {
        node("p2")
    } else {
        node("p1")
    };
    let out = bench.letter(meta(node("d1"), 7, 1), find(&[first]));
    assert_eq!(found(&out), Some((node("d1"), Some(other))));
    let state = bench.state();
    assert_eq!(state.bookings, 1);
    let [placed, found] = &state.decisions[..] else {
        panic!("two decisions: {:?}", state.decisions);
    };
    assert_eq!(
        (found.placement, found.gateway),
        (placed.placement, placed.gateway)
    );
    assert_eq!((found.decode, found.prefill), (node("d1"), Some(other)));
}

#[test]
fn where_nobody_else_is_the_owner_is_told_so() {
    let mut bench = Bench::with(&["d1", "p1"]);
    bench.admit(7, 1, admit(7));
    let out = bench.letter(meta(node("d1"), 7, 1), find(&[node("p1")]));
    assert_eq!(found(&out), Some((node("d1"), None)));
    let again = bench.letter(meta(node("d1"), 7, 1), find(&[node("p1")]));
    assert_eq!(
        found(&again),
        Some((node("d1"), None)),
        "nothing is remembered"
    );
}

#[test]
fn owners_that_are_not_known_and_senseless_questions_get_no_answer() {
    let mut bench = Bench::with(&["d1", "p1", "p2"]);
    let older = NodeRef {
        epoch: Epoch(0),
        ..node("d1")
    };
    let none = FindPrefill {
        tokens: 0,
        ..find(&[])
    };
    let many = find(&vec![node("p1"); 1025]);
    for (from, find) in [
        (older, find(&[])),
        (node("d9"), find(&[])),
        (node("d1"), none),
        (node("d1"), many),
    ] {
        let out = bench.letter(meta(from, 7, 1), find);
        assert_eq!(found(&out), None);
    }
    assert_eq!(bench.state().counters.stale, 4);
}

fn find(avoid: &[NodeRef]) -> FindPrefill {
    FindPrefill {
        placement: Placement(1),
        avoid: avoid.to_vec(),
        tokens: 500,
        output: 10,
        hashes: vec![1, 2, 3],
    }
}

fn found(effects: &[Effect]) -> Option<(NodeRef, Option<NodeRef>)> {
    letters(effects).find_map(|o| match &o.message {
        AnyMessage::PrefillFound(found) => Some((o.meta.to, found.prefill)),
        _ => None,
    })
}
