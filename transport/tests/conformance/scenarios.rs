//! What every fabric must do. Each scenario is one promise of the contract.

use std::time::{Duration, Instant};

use transport::Failure;

use crate::harness::{Cluster, SLOT_BYTES, SLOTS, TICKET, pattern, slot_ref, take};

/// Takes that are given up: enough to meet each step of a take many times.
const ABORTS: u64 = 500;

pub(crate) fn bytes_arrive_in_the_chosen_slots_and_nowhere_else(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    let slots = [(3, 9), (60, 2), (0, 63), (17, 17)];
    owner.export(5, &reader, slots.map(|(from, _)| from));
    reader.fabric.take(take(1, &owner, 5, &slots));
    assert_eq!(reader.outcome(1), Ok(4 * SLOT_BYTES as u64));
    for (from, to) in slots {
        assert!(
            reader.slot(to) == pattern(from, 1, SLOT_BYTES),
            "slot {to} is not {from}"
        );
    }
    let untouched = (0..SLOTS).filter(|slot| slots.iter().all(|(_, to)| to != slot));
    for slot in untouched {
        assert!(
            reader.slot(slot).iter().all(|byte| *byte == 0),
            "slot {slot} was touched"
        );
    }
    let moved = reader.fabric.moved();
    assert_eq!(
        (moved.bytes_in, moved.takes, moved.failures),
        (4 * SLOT_BYTES as u64, 1, 0)
    );
}

pub(crate) fn many_takes_interleave(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, 0..SLOTS);
    for id in 0..u64::from(SLOTS) {
        let slot = id as u32;
        reader
            .fabric
            .take(take(id, &owner, 0, &[(slot, SLOTS - 1 - slot)]));
    }
    for id in 0..u64::from(SLOTS) {
        assert_eq!(reader.outcome(id), Ok(SLOT_BYTES as u64));
    }
    for slot in 0..SLOTS {
        assert!(reader.slot(SLOTS - 1 - slot) == pattern(slot, 1, SLOT_BYTES));
    }
}

pub(crate) fn two_nodes_take_from_each_other_at_once(cluster: &Cluster) {
    let (left, right) = cluster.pair();
    right.fill(2);
    left.know(&right);
    left.export(0, &right, 0..32);
    right.export(0, &left, 0..32);
    let slots: Vec<(u32, u32)> = (0..32).map(|slot| (slot, slot + 32)).collect();
    left.fabric.take(take(1, &right, 0, &slots));
    right.fabric.take(take(1, &left, 0, &slots));
    for node in [&left, &right] {
        assert_eq!(node.outcome(1), Ok(32 * SLOT_BYTES as u64));
    }
    for (from, to) in slots {
        assert!(left.slot(to) == pattern(from, 2, SLOT_BYTES));
        assert!(right.slot(to) == pattern(from, 1, SLOT_BYTES));
    }
}

pub(crate) fn an_empty_take_needs_a_ticket_too(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    reader.fabric.take(take(1, &owner, 0, &[]));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    owner.export(0, &reader, []);
    reader.fabric.take(take(2, &owner, 0, &[]));
    assert_eq!(reader.outcome(2), Ok(0));
}

pub(crate) fn a_take_without_a_ticket_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(1, &reader, [3]);
    reader.fabric.take(take(1, &owner, 2, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    assert!(reader.is_untouched());
}

pub(crate) fn a_take_by_the_wrong_audience_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    let other = cluster.node("other");
    owner.export(0, &other, [3]);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    assert!(reader.is_untouched());
}

pub(crate) fn a_take_of_an_older_generation_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    let mut stale = take(1, &owner, 0, &[(3, 3)]);
    stale.pieces[0].from = slot_ref(3, 0);
    reader.fabric.take(stale);
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    assert!(reader.is_untouched());
}

pub(crate) fn a_take_of_a_block_that_was_not_exported_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, 0..40);
    let all_but_the_last: Vec<(u32, u32)> = (0..41).map(|slot| (slot, slot)).collect();
    reader.fabric.take(take(1, &owner, 0, &all_but_the_last));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
}

pub(crate) fn a_take_of_a_slot_that_does_not_exist_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [SLOTS, u32::MAX]);
    reader.fabric.take(take(1, &owner, 0, &[(SLOTS, 0)]));
    reader.fabric.take(take(2, &owner, 0, &[(u32::MAX, 0)]));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    assert_eq!(reader.outcome(2), Err(Failure::Denied));
    assert!(reader.is_untouched());
}

pub(crate) fn a_take_under_a_revoked_ticket_is_denied(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    owner.fabric.revoke(TICKET);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Err(Failure::Denied));
    owner.export(0, &reader, [3]);
    reader.fabric.take(take(2, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(2), Ok(SLOT_BYTES as u64));
}

pub(crate) fn a_take_into_a_slot_that_does_not_exist_is_garbled(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    reader.fabric.take(take(1, &owner, 0, &[(3, SLOTS)]));
    assert_eq!(reader.outcome(1), Err(Failure::Protocol));
}

pub(crate) fn a_take_of_too_many_blocks_is_refused(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    reader
        .fabric
        .take(take(1, &owner, 0, &vec![(3, 3); (1 << 16) + 1]));
    assert_eq!(reader.outcome(1), Err(Failure::Overload));
}

pub(crate) fn an_unknown_owner_is_unreachable(cluster: &Cluster) {
    let (owner, reader) = (cluster.node("owner"), cluster.node("reader"));
    reader.fabric.take(take(1, &owner, 0, &[(0, 0)]));
    assert_eq!(reader.outcome(1), Err(Failure::Unreachable));
}

pub(crate) fn an_owner_with_a_senseless_card_is_unreachable(cluster: &Cluster) {
    let (owner, reader) = (cluster.node("owner"), cluster.node("reader"));
    let mut card = owner.fabric.card();
    card.truncate(20);
    reader.fabric.know(owner.me, &card);
    reader.fabric.take(take(1, &owner, 0, &[(0, 0)]));
    assert_eq!(reader.outcome(1), Err(Failure::Unreachable));
    assert_eq!(reader.fabric.unreachable(), vec![owner.me]);
    assert_eq!(reader.fabric.moved().garbage, 1);
    reader.know(&owner);
    owner.export(0, &reader, [0]);
    reader.fabric.take(take(2, &owner, 0, &[(0, 0)]));
    assert_eq!(reader.outcome(2), Ok(SLOT_BYTES as u64));
    assert_eq!(reader.fabric.unreachable(), vec![]);
}

pub(crate) fn other_block_sizes_do_not_fit(cluster: &Cluster) {
    let owner = cluster.node_of("owner", 1, SLOTS, SLOT_BYTES / 2);
    let reader = cluster.node("reader");
    owner.export(0, &reader, [0]);
    reader.know(&owner);
    reader.fabric.take(take(1, &owner, 0, &[(0, 0)]));
    assert_eq!(reader.outcome(1), Err(Failure::LayoutMismatch));
    assert!(reader.is_untouched());
}

pub(crate) fn a_cancelled_take_ends_at_once_and_settles(cluster: &Cluster) {
    let owner = cluster.node_of("owner", 1, SLOTS, 1 << 20);
    let reader = cluster.node_of("reader", 1, SLOTS, 1 << 20);
    reader.know(&owner);
    owner.export(0, &reader, 0..SLOTS);
    let all: Vec<(u32, u32)> = (0..SLOTS).map(|slot| (slot, slot)).collect();
    for id in 0..8 {
        reader.fabric.take(take(id, &owner, 0, &all));
    }
    (0..8).for_each(|id| reader.fabric.cancel(id));
    let cancelled = (0..8).filter(|id| reader.outcome(*id) == Err(Failure::Cancelled));
    assert!(
        cancelled.count() > 0,
        "512 MiB were moved before a cancel was heard"
    );
    owner.fill(4);
    owner.export(0, &reader, 0..SLOTS); // what is exported anew gets new sums
    reader.fabric.take(take(9, &owner, 0, &[(1, 1)]));
    assert_eq!(reader.outcome(9), Ok(1 << 20));
    assert!(reader.slot(1) == pattern(1, 4, 1 << 20));
}

pub(crate) fn takes_given_up_at_any_moment_all_settle(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, 0..SLOTS);
    let all: Vec<(u32, u32)> = (0..SLOTS).map(|slot| (slot, slot)).collect();
    // The second of two that are left alone says how long one takes once they are connected.
    let [_, whole] = [ABORTS + 1, ABORTS + 2].map(|id| {
        let began = Instant::now();
        reader.fabric.take(take(id, &owner, 0, &all));
        assert!(reader.outcome(id).is_ok());
        began.elapsed()
    });
    for id in 0..ABORTS {
        reader.fabric.take(take(id, &owner, 0, &all));
        // From at once to well after the end of a take as long as the one above, in steps that do not repeat soon.
        std::thread::sleep(whole * (id * 37 % 100) as u32 / 25);
        reader.fabric.cancel(id);
    }
    let (mut completed, mut cancelled) = (0, 0);
    for id in 0..ABORTS {
        match reader.outcome(id) {
            Ok(bytes) => {
                assert_eq!(bytes, u64::from(SLOTS) * SLOT_BYTES as u64);
                completed += 1;
            }
            Err(Failure::Cancelled) => cancelled += 1,
            Err(other) => panic!("take {id}: {other:?}"),
        }
    }
    assert!(
        completed > 0 && cancelled > 0,
        "{completed} completed, {cancelled} were cancelled in time"
    );
    reader.fabric.take(take(ABORTS, &owner, 0, &all));
    assert!(reader.outcome(ABORTS).is_ok());
    assert!((0..SLOTS).all(|slot| reader.slot(slot) == pattern(slot, 1, SLOT_BYTES)));
}

pub(crate) fn cancelling_what_is_over_or_unknown_changes_nothing(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Ok(SLOT_BYTES as u64));
    reader.fabric.cancel(1);
    reader.fabric.cancel(77);
    reader.fabric.take(take(2, &owner, 0, &[(3, 4)]));
    assert_eq!(reader.outcome(2), Ok(SLOT_BYTES as u64));
    reader.assert_ended_once(1);
}

pub(crate) fn a_block_that_is_not_what_its_owner_exported_is_corrupt(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    let other = cluster.node("other");
    other.export(0, &reader, [3]);
    reader.know(&other);
    owner.export(0, &reader, [3, 4]);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3), (4, 4)]));
    assert_eq!(reader.outcome(1), Ok(2 * SLOT_BYTES as u64));
    owner
        .region
        .write(4, SLOT_BYTES - 1, &[!reader.slot(4)[SLOT_BYTES - 1]]);
    reader.fabric.take(take(2, &owner, 0, &[(3, 5)]));
    assert_eq!(reader.outcome(2), Ok(SLOT_BYTES as u64));
    reader.fabric.take(take(3, &owner, 0, &[(4, 6)]));
    assert_eq!(reader.outcome(3), Err(Failure::Corrupt));
    // Its owner is not read from again, even if its card is heard again; others are.
    reader.know(&owner);
    reader.fabric.take(take(4, &owner, 0, &[(3, 7)]));
    assert_eq!(reader.outcome(4), Err(Failure::Unreachable));
    assert_eq!(reader.fabric.unreachable(), vec![owner.me]);
    reader.fabric.take(take(5, &other, 0, &[(3, 8)]));
    assert_eq!(reader.outcome(5), Ok(SLOT_BYTES as u64));
}

pub(crate) fn a_take_without_time_misses_its_deadline(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, 0..SLOTS);
    let all: Vec<(u32, u32)> = (0..SLOTS).map(|slot| (slot, slot)).collect();
    let mut hasty = take(1, &owner, 0, &all);
    hasty.timeout = Duration::ZERO;
    reader.fabric.take(hasty);
    assert_eq!(reader.outcome(1), Err(Failure::Deadline));
}

pub(crate) fn a_dropped_owner_is_lost(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Ok(SLOT_BYTES as u64));
    let mut late = take(2, &owner, 0, &[(3, 4)]);
    late.timeout = Duration::from_secs(2);
    drop(owner);
    reader.fabric.take(late);
    let end = reader.outcome(2);
    let lost = [Failure::PeerLost, Failure::Unreachable, Failure::Deadline];
    assert!(end.is_err_and(|failure| lost.contains(&failure)), "{end:?}");
}

pub(crate) fn a_forgotten_owner_is_lost(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    owner.export(0, &reader, [3]);
    reader.fabric.take(take(1, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(1), Ok(SLOT_BYTES as u64));
    reader.fabric.forget(owner.me);
    reader.fabric.take(take(2, &owner, 0, &[(3, 4)]));
    assert_eq!(reader.outcome(2), Err(Failure::Unreachable));
    reader.know(&owner);
    reader.fabric.take(take(3, &owner, 0, &[(3, 4)]));
    assert_eq!(reader.outcome(3), Ok(SLOT_BYTES as u64));
}

pub(crate) fn a_restarted_owner_is_reached_under_its_new_epoch(cluster: &Cluster) {
    let (owner, reader) = cluster.pair();
    let old_card = owner.fabric.card();
    let old = take(1, &owner, 0, &[(3, 3)]);
    drop(owner);
    let owner = cluster.node_of("owner", 2, SLOTS, SLOT_BYTES);
    owner.fill(2);
    owner.export(0, &reader, [3]);
    reader.know(&owner);
    reader.fabric.know(old.owner, &old_card);
    reader.fabric.take(old);
    assert_eq!(reader.outcome(1), Err(Failure::Unreachable));
    reader.fabric.take(take(2, &owner, 0, &[(3, 3)]));
    assert_eq!(reader.outcome(2), Ok(SLOT_BYTES as u64));
    assert!(reader.slot(3) == pattern(3, 2, SLOT_BYTES));
}

pub(crate) fn stopping_ends_all_takes(cluster: &Cluster) {
    let owner = cluster.node_of("owner", 1, SLOTS, 1 << 20);
    let mut reader = cluster.node_of("reader", 1, SLOTS, 1 << 20);
    reader.know(&owner);
    owner.export(0, &reader, 0..SLOTS);
    let all: Vec<(u32, u32)> = (0..SLOTS).map(|slot| (slot, slot)).collect();
    (0..4).for_each(|id| reader.fabric.take(take(id, &owner, 0, &all)));
    reader.fabric = cluster.node("bystander").fabric;
    for id in 0..4 {
        let end = reader.outcome(id);
        assert!(
            end == Ok(64 << 20) || end == Err(Failure::Cancelled),
            "{end:?}"
        );
    }
}
