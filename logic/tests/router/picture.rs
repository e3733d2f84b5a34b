//! What the router hears of its workers: beats, notices, snapshots, losses.

use bus_schemas::{
    Epoch, Meta, NodeRef,
    limits::{BEAT_US, LEASE_US},
    messages::{AnyMessage, Beat, Change, Notice, SnapshotPart},
};
use logic::{
    hash,
    role::{
        Dest,
        router::{Effect, Input, Note},
    },
};

use crate::bench::{BLOCK_TOKENS, Bench, admit, beat_of, letters, node, reserve};

#[test]
fn the_worker_that_holds_the_prompt_is_chosen() {
    let mut bench = Bench::with(&["d1", "d2", "d3"]);
    bench.notice(
        node("d2"),
        Notice {
            first: 1,
            changes: stored(&hashes()),
        },
    );
    for request in 0..8 {
        let (owner, placement, _) = reserve(&bench.admit(request, 1, admit(request))).expect("d2");
        assert_eq!(owner, "d2");
        bench.refused(
            &owner,
            request,
            placement,
            bus_schemas::RefuseReason::Invalid,
        );
    }
    assert_eq!(bench.state().decisions[0].explained[0].cached_tokens, 40);
}

#[test]
fn a_gap_is_healed_by_one_snapshot() {
    let mut bench = Bench::with(&["d1"]);
    let out = bench.notice(
        node("d1"),
        Notice {
            first: 3,
            changes: stored(&[9]),
        },
    );
    assert_eq!(asked(&out), 1);
    assert_eq!(
        asked(&bench.notice(
            node("d1"),
            Notice {
                first: 4,
                changes: stored(&[9])
            }
        )),
        0
    );
    part(&mut bench, 5, 1, 2, &[3]);
    assert_eq!(bench.state().indexed, 0);
    part(&mut bench, 5, 0, 2, &[1, 2]);
    assert_eq!(bench.state().indexed, 3);
    bench.notice(
        node("d1"),
        Notice {
            first: 6,
            changes: vec![Change::Removed(1)],
        },
    );
    assert_eq!((bench.state().indexed, bench.state().counters.gaps), (2, 1));
}

#[test]
fn a_beat_tells_of_notices_that_never_came_and_asks_again_while_nothing_comes() {
    let mut bench = Bench::with(&["d1"]);
    let behind = Beat {
        notice: 2,
        ..beat_of("d1")
    };
    assert_eq!(asked(&bench.beat(node("d1"), behind.clone())), 1);
    let mut asks = 0;
    for _ in 0..8 {
        bench.pass(BEAT_US);
        asks += asked(&bench.beat(node("d1"), behind.clone()));
    }
    assert_eq!(asks, 2, "once a second in two seconds");
}

#[test]
fn not_all_snapshots_are_asked_for_at_once() {
    let mut bench = Bench::with(&[]);
    let asks: usize = (0..40)
        .map(|n| format!("d{n}"))
        .map(|name| {
            asked(&bench.beat(
                node(&name),
                Beat {
                    notice: 1,
                    ..beat_of("d")
                },
            ))
        })
        .sum();
    assert_eq!(asks, 16);
}

#[test]
fn a_new_epoch_forgets_what_the_old_one_had() {
    let mut bench = Bench::with(&["d1"]);
    bench.notice(
        node("d1"),
        Notice {
            first: 1,
            changes: stored(&[1, 2]),
        },
    );
    bench.admit(7, 1, admit(7));
    bench.promised("d1", 7, 1);
    let next = NodeRef {
        epoch: Epoch(2),
        ..node("d1")
    };
    let out = bench.beat(next, beat_of("d1"));
    assert_eq!(orphaned(&out), [(7, node("d1"))]);
    assert_eq!((bench.state().indexed, bench.state().bookings), (0, 0));
    bench.notice(
        node("d1"),
        Notice {
            first: 3,
            changes: stored(&[3]),
        },
    );
    assert_eq!(
        bench.state().indexed,
        0,
        "the old epoch is not heard any more"
    );
}

#[test]
fn a_lost_worker_is_a_hint_for_what_it_had_and_another_try_for_what_it_owed() {
    let mut bench = Bench::with(&["d1"]);
    bench.admit(7, 1, admit(7));
    bench.promised("d1", 7, 1);
    bench.admit(8, 1, admit(8));
    bench.beat(node("d2"), beat_of("d2"));
    let out = bench.give(Input::Gone(node("d1")));
    assert_eq!(orphaned(&out), [(7, node("d1"))]);
    assert_eq!(reserve(&out), Some(("d2".to_owned(), 2, None)));
    assert!(bench.give(Input::Gone(node("d1"))).is_empty());
}

#[test]
fn a_silent_worker_is_probed_and_lost_after_a_lease() {
    let mut bench = Bench::with(&["d1"]);
    let out = bench.pass(LEASE_US);
    assert!(out.contains(&Effect::Probe(node("d1"))));
    let left: Vec<_> = bench.state().nodes.iter().map(|n| n.member.me).collect();
    assert_eq!(left, [node("router")], "it hears itself");
}

#[test]
fn a_worker_with_another_card_or_block_size_is_named_and_not_used() {
    let mut bench = Bench::with(&["d1", "d2"]);
    let mut other = beat_of("d3");
    other.card = 2;
    let out = bench.beat(node("d3"), other);
    assert!(out.contains(&Effect::Note(Note::CardDiffers(node("d3")))));
    let mut other = beat_of("d4");
    other.load.block_tokens = BLOCK_TOKENS * 2;
    let out = bench.beat(node("d4"), other);
    assert!(out.contains(&Effect::Note(Note::CardDiffers(node("d4")))));
    let agrees: Vec<bool> = bench.state().nodes.iter().map(|n| n.card_agrees).collect();
    assert_eq!(agrees, [true, true, false, false]);
    for request in 0..20 {
        let (owner, ..) = reserve(&bench.admit(request, 1, admit(request))).expect("two are left");
        assert!(["d1", "d2"].contains(&owner.as_str()));
    }
}

#[test]
fn the_router_beats() {
    let mut bench = Bench::with(&[]);
    let out = bench.pass(BEAT_US * 4);
    let beats = out
        .iter()
        .filter(|e| matches!(e, Effect::Send(o) if o.dest == Dest::Beats));
    assert_eq!(beats.count(), 5);
}

fn asked(effects: &[Effect]) -> usize {
    letters(effects)
        .filter(|o| matches!(o.message, AnyMessage::SnapshotAsk(_)))
        .count()
}

fn orphaned(effects: &[Effect]) -> Vec<(u128, NodeRef)> {
    let all = letters(effects).filter_map(|o| match &o.message {
        AnyMessage::Orphaned(orphaned) => Some((o.meta.request.0, orphaned.owner)),
        _ => None,
    });
    all.collect()
}

fn part(bench: &mut Bench, number: u64, part: u32, parts: u32, blocks: &[u64]) {
    let meta = Meta::node(node("d1"), node("router"));
    bench.letter(
        meta,
        SnapshotPart {
            number,
            part,
            parts,
            blocks: blocks.to_vec(),
        },
    );
}

/// Names of the full blocks of the bench's prompt.
fn hashes() -> Vec<u64> {
    let spec = admit(0).spec;
    hash::sequence_hashes(hash::seed_of(&spec), &spec.prompt, BLOCK_TOKENS)
}

fn stored(hashes: &[u64]) -> Vec<Change> {
    hashes.iter().map(|hash| Change::Stored(*hash)).collect()
}
