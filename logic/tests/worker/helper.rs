//! What a decode worker does about its prefill worker: one that it has not heard yet.

use bus_schemas::{Role, Roles, limits::LEASE_US};

use crate::bench::{Bench, node, offer, prefill, reserve, step, takes};

const PROMPT: u32 = 20;

#[test]
fn offers_of_a_peer_that_was_never_heard_wait_for_its_first_beat() {
    let mut bench = Bench::new(Roles::only(Role::Decode));
    let asked = bench.letter(node("r"), 1, reserve(1, PROMPT, Some(node("p"))));
    let (peer, ticket) = prefill(&asked).expect("p is asked to prefill");
    assert_eq!(peer, node("p"));
    let offered = bench.letter(peer, 1, offer(ticket, PROMPT));
    assert_eq!(takes(&offered), 0, "its memory is not known");
    assert!(step(&offered).is_none() && bench.state().counters.fallbacks == 0);
    let heard = bench.beat(peer);
    assert_eq!(takes(&heard), 1);
}

#[test]
fn a_peer_that_is_never_heard_is_waited_for_no_longer_than_a_lease() {
    let mut bench = Bench::new(Roles::only(Role::Decode));
    let asked = bench.letter(node("r"), 1, reserve(1, PROMPT, Some(node("p"))));
    let (peer, ticket) = prefill(&asked).expect("p is asked to prefill");
    bench.letter(peer, 1, offer(ticket, PROMPT));
    bench.pass(LEASE_US - 1);
    assert_eq!(bench.state().counters.fallbacks, 0);
    let given_up = bench.pass(1);
    assert!(step(&given_up).is_some(), "it prefills by itself");
    assert_eq!(bench.state().counters.fallbacks, 1);
}
