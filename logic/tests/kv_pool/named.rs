//! Single rules of the pool, one case each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bus_schemas::messages::SlotRef;
use logic::{
    hash,
    kv::{Change, Pool, Seal, State, check},
};

#[test]
fn a_cached_block_is_found_by_its_tokens_and_pinned() {
    let mut pool = Pool::new(4, &[]);
    let chain = cache(&mut pool, &[1, 2, 3]);
    assert_eq!(find(&mut pool, &[1, 2, 3]), chain);
    assert_eq!(pool.counts().sealed, 3);
    assert_eq!(find(&mut pool, &[1, 2, 9]), chain[..2]);
    assert_eq!(find(&mut pool, &[9, 2, 3]), []);
}

#[test]
fn a_colliding_name_is_no_hit() {
    let mut pool = Pool::new(4, &[]);
    cache(&mut pool, &[1]);
    let name = [hash::block_hash(0, &[1])];
    assert_eq!(pool.find(&name, &[2], 1, 0), []);
    assert_eq!(pool.find(&name, &[1], 1, 7), []);
    assert_eq!(pool.find(&name, &[1], 1, 0).len(), 1);
}

#[test]
fn eviction_takes_the_longest_unused_first_and_a_chain_from_its_tail() {
    let mut pool = Pool::new(5, &[]);
    let old = cache(&mut pool, &[1, 2]);
    let new = cache(&mut pool, &[3, 4]);
    // Used again, head first: its tail must still go before its head.
    for slot in find(&mut pool, &[1, 2]) {
        assert!(pool.unpin(slot));
    }
    pool.take_changes();
    let order: Vec<u32> = (0..5)
        .flat_map(|_| reserve(&mut pool, 1))
        .map(|s| s.slot)
        .collect();
    assert_eq!(
        order[1..],
        [new[1].slot, new[0].slot, old[1].slot, old[0].slot]
    );
    assert_eq!(pool.take_changes().len(), 4);
    assert_eq!(pool.reserve(1), None);
}

#[test]
fn a_reservation_is_all_or_nothing_and_raises_the_generation() {
    let mut pool = Pool::new(3, &[2]);
    assert_eq!(pool.reserve(3), None);
    assert_eq!(pool.counts().free, 2);
    let slots = reserve(&mut pool, 2);
    assert!(slots.iter().all(|s| s.generation == 1));
    for slot in slots {
        assert!(pool.free(slot));
    }
    assert!(reserve(&mut pool, 2).iter().all(|s| s.generation == 2));
}

#[test]
fn the_same_block_twice_is_found_once_and_the_second_is_freed() {
    let mut pool = Pool::new(2, &[]);
    let first = compute(&mut pool, &[1], 0);
    let second = compute(&mut pool, &[1], 0);
    assert_eq!(
        pool.take_changes(),
        [Change::Stored(hash::block_hash(0, &[1]))]
    );
    assert!(pool.unpin(second) && pool.unpin(first));
    assert_eq!(pool.state(second.slot), Some(State::Free));
    assert_eq!(pool.state(first.slot), Some(State::Cached));
}

#[test]
fn every_user_must_let_go_before_a_block_can_be_evicted() {
    let mut pool = Pool::new(1, &[]);
    let slot = compute(&mut pool, &[1], 0);
    assert!(pool.pin(slot) && pool.unpin(slot));
    assert_eq!(pool.reserve(1), None);
    assert!(pool.unpin(slot));
    assert_eq!(pool.available(), 1);
    assert!(pool.pin(slot));
    assert_eq!(pool.state(slot.slot), Some(State::Sealed));
}

#[test]
fn evicting_a_head_whose_tail_is_in_use_hides_the_tail() {
    let mut pool = Pool::new(3, &[]);
    let head = compute(&mut pool, &[1, 2], 0);
    let twin = compute(&mut pool, &[1, 2], 0);
    let tail = compute(&mut pool, &[1, 2], 1);
    assert!(pool.unpin(head));
    pool.take_changes();
    assert_eq!(reserve(&mut pool, 1)[0].slot, head.slot);
    assert!(pool.indexed_hashes().is_empty());
    assert_eq!(pool.take_changes().len(), 2);
    assert!(pool.unpin(tail) && pool.unpin(twin));
    assert_eq!(pool.counts().free, 2);
    assert_eq!(check(&pool), Ok(()));
}

#[test]
fn a_quarantined_block_comes_back_only_when_settled() {
    let mut pool = Pool::new(2, &[0]);
    let slot = reserve(&mut pool, 1)[0];
    assert!(pool.fill(slot) && pool.quarantine(slot));
    assert_eq!(pool.available(), 0);
    assert!(
        pool.settle(slot)
            && pool.settle(SlotRef {
                slot: 0,
                generation: 0
            })
    );
    assert_eq!(pool.available(), 2);
}

#[test]
fn misuse_is_caught_and_changes_nothing() {
    let mut pool = Pool::new(2, &[]);
    let slot = reserve(&mut pool, 1)[0];
    let stale = SlotRef {
        generation: slot.generation - 1,
        ..slot
    };
    let beyond = SlotRef {
        slot: 9,
        generation: 0,
    };
    refused(&mut pool, |pool| pool.fill(stale));
    refused(&mut pool, |pool| pool.fill(beyond));
    refused(&mut pool, |pool| pool.unpin(slot));
    refused(&mut pool, |pool| pool.pin(slot));
    refused(&mut pool, |pool| pool.settle(slot));
    refused(&mut pool, |pool| pool.seal(slot, seal(&[1], 0)));
    assert!(pool.fill(slot) && pool.seal(slot, seal(&[1], 0)));
    refused(&mut pool, |pool| pool.free(slot));
    refused(&mut pool, |pool| pool.quarantine(slot));
    assert!(pool.unpin(slot));
    refused(&mut pool, |pool| pool.unpin(slot));
}

/// Debug builds stop at a mistake, others refuse it; neither may change the books.
fn refused(pool: &mut Pool, mistake: impl FnOnce(&mut Pool) -> bool) {
    let before = (pool.counts(), pool.indexed_hashes());
    let done = catch_unwind(AssertUnwindSafe(|| mistake(pool)));
    assert!(!done.unwrap_or(false), "the mistake was accepted");
    assert_eq!((pool.counts(), pool.indexed_hashes()), before);
    assert_eq!(check(pool), Ok(()));
}

fn reserve(pool: &mut Pool, n: usize) -> Vec<SlotRef> {
    pool.reserve(n).expect("the case leaves enough memory")
}

/// Blocks of one token each.
fn find(pool: &mut Pool, tokens: &[u32]) -> Vec<SlotRef> {
    pool.find(&hash::sequence_hashes(0, tokens, 1), tokens, 1, 0)
}

fn seal(tokens: &[u32], index: usize) -> Seal {
    let hashes = hash::sequence_hashes(0, tokens, 1);
    let parent = index.checked_sub(1).map(|before| hashes[before]);
    Seal {
        hash: hashes[index],
        parent,
        seed: 0,
        tokens: [tokens[index]].into(),
    }
}

/// Computes one block of a sequence; it keeps its pin.
fn compute(pool: &mut Pool, tokens: &[u32], index: usize) -> SlotRef {
    let slot = reserve(pool, 1)[0];
    assert!(pool.fill(slot) && pool.seal(slot, seal(tokens, index)));
    slot
}

/// Computes a sequence and lets it go, the tail first.
fn cache(pool: &mut Pool, tokens: &[u32]) -> Vec<SlotRef> {
    let slots: Vec<SlotRef> = (0..tokens.len())
        .map(|i| compute(pool, tokens, i))
        .collect();
    for slot in slots.iter().rev() {
        assert!(pool.unpin(*slot));
    }
    slots
}
