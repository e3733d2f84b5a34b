//! What a decode worker does when its prefill worker refuses: it asks its router, once.

use bus_schemas::{
    NodeRef, Placement, RefuseReason, Role, Roles, Ticket,
    limits::REPEAT_US,
    messages::{AnyMessage, Cancel, FindPrefill, PrefillFound, PrefillRefused},
};
use logic::role::worker::Effect;

use crate::bench::{Bench, letters, node, offer, prefill, reserve, step};

const PROMPT: u32 = 20;

#[test]
fn a_refusal_is_followed_by_one_question_and_the_answer_by_another_ticket() {
    let (mut bench, first) = asked();
    let out = refuse(&mut bench, node("p"), first);
    let (router, find) = question(&out).expect("the router is asked");
    assert_eq!((router, find.tokens), (node("r"), PROMPT));
    assert_eq!((find.avoid, find.hashes.len()), (vec![node("p")], 5));
    assert!(step(&out).is_none(), "nothing is prefilled meanwhile");
    let out = answer(&mut bench, node("r"), Some(node("q")));
    let (peer, second) = prefill(&out).expect("another is asked");
    assert_eq!(peer, node("q"));
    assert_ne!(second, first);
    assert_eq!(counts(&bench), (1, 0));
    bench.beat(peer);
    assert_eq!(
        crate::bench::takes(&bench.letter(peer, 1, offer(second, PROMPT))),
        1
    );
}

#[test]
fn a_router_that_names_nobody_or_says_nothing_means_prefill_here() {
    let (mut bench, ticket) = asked();
    refuse(&mut bench, node("p"), ticket);
    assert!(step(&answer(&mut bench, node("r"), None)).is_some());
    assert_eq!(counts(&bench), (0, 1));

    let (mut bench, ticket) = asked();
    refuse(&mut bench, node("p"), ticket);
    assert!(step(&bench.pass(REPEAT_US - 1)).is_none());
    assert!(step(&bench.pass(1)).is_some());
    assert_eq!(counts(&bench), (0, 1));
    let late = answer(&mut bench, node("r"), Some(node("q")));
    assert!(prefill(&late).is_none(), "too late");
}

#[test]
fn an_answer_that_names_who_refused_or_the_asker_means_prefill_here() {
    for named in [node("p"), crate::bench::me()] {
        let (mut bench, ticket) = asked();
        refuse(&mut bench, node("p"), ticket);
        let out = answer(&mut bench, node("r"), Some(named));
        assert!(prefill(&out).is_none() && step(&out).is_some(), "{named:?}");
    }
}

#[test]
fn a_second_refusal_asks_nobody() {
    let (mut bench, ticket) = asked();
    refuse(&mut bench, node("p"), ticket);
    let out = answer(&mut bench, node("r"), Some(node("q")));
    let (peer, ticket) = prefill(&out).expect("another is asked");
    let out = refuse(&mut bench, peer, ticket);
    assert!(question(&out).is_none() && step(&out).is_some());
    assert_eq!(counts(&bench), (1, 1));
}

#[test]
fn repeats_and_answers_of_strangers_change_nothing() {
    let (mut bench, ticket) = asked();
    assert!(question(&refuse(&mut bench, node("x"), ticket)).is_none());
    refuse(&mut bench, node("p"), ticket);
    assert!(question(&refuse(&mut bench, node("p"), ticket)).is_none());
    assert!(prefill(&answer(&mut bench, node("s"), Some(node("q")))).is_none());
    assert!(prefill(&answer(&mut bench, node("r"), Some(node("q")))).is_some());
    assert!(prefill(&answer(&mut bench, node("r"), Some(node("z")))).is_none());
}

#[test]
fn a_job_cancelled_meanwhile_asks_nobody_else_and_keeps_nothing() {
    let (mut bench, ticket) = asked();
    refuse(&mut bench, node("p"), ticket);
    let placement = Placement(1);
    bench.letter(node("g"), 1, Cancel { placement });
    assert!(bench.state().jobs.is_empty());
    let out = answer(&mut bench, node("r"), Some(node("q")));
    assert!(prefill(&out).is_none() && step(&out).is_none());
    let counts = bench.state().audit.counts;
    assert_eq!(counts.free + counts.cached, counts.total);
}

/// A worker that has asked `p` to prefill, and the ticket.
fn asked() -> (Bench, Ticket) {
    let mut bench = Bench::new(Roles::only(Role::Decode));
    let out = bench.letter(node("r"), 1, reserve(1, PROMPT, Some(node("p"))));
    let (_, ticket) = prefill(&out).expect("p is asked to prefill");
    (bench, ticket)
}

fn refuse(bench: &mut Bench, from: NodeRef, ticket: Ticket) -> Vec<Effect> {
    let reason = RefuseReason::Full;
    bench.letter(from, 1, PrefillRefused { ticket, reason })
}

fn answer(bench: &mut Bench, from: NodeRef, prefill: Option<NodeRef>) -> Vec<Effect> {
    let placement = Placement(1);
    bench.letter(from, 1, PrefillFound { placement, prefill })
}

fn question(effects: &[Effect]) -> Option<(NodeRef, FindPrefill)> {
    letters(effects).find_map(|o| match &o.message {
        AnyMessage::FindPrefill(find) => Some((o.meta.to, find.clone())),
        _ => None,
    })
}

/// Prefills asked again, and done here after all.
fn counts(bench: &Bench) -> (u64, u64) {
    let counters = bench.state().counters;
    (counters.asked_again, counters.fallbacks)
}
