//! The block pool against a slow, obvious model, and its promise that a hit is never a wrong one.

#[path = "kv_pool/model.rs"]
mod model;
#[path = "kv_pool/named.rs"]
mod named;
#[path = "kv_pool/users.rs"]
mod users;

use bus_schemas::messages::SlotRef;
use logic::kv::{self, Pool, Seal, State};
use model::Model;
use proptest::prelude::*;

/// Tokens of a block in these tests: few, so that blocks are often alike.
const BLOCK_TOKENS: u32 = 2;

#[derive(Clone, Debug)]
enum Op {
    Find {
        path: Vec<u32>,
        seed: u64,
    },
    Reserve(usize),
    Fill(usize),
    Seal {
        pick: usize,
        hash: u64,
        parent: Option<u64>,
        seed: u64,
        token: u32,
    },
    Pin(usize),
    Unpin(usize),
    Free(usize),
    Quarantine(usize),
    Settle(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_pool_does_what_the_model_does(
        slots in 1u32..10,
        quarantined in prop::collection::vec(0u32..10, 0..3),
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut pool = Pool::new(slots, &quarantined);
        let mut model = Model::new(slots, &quarantined);
        for op in ops {
            apply(&mut pool, &mut model, &op);
            prop_assert_eq!(kv::check(&pool), Ok(()));
            prop_assert_eq!(pool.take_changes(), model.take_changes(), "after {:?}", op);
            let mut hashes = pool.indexed_hashes();
            hashes.sort_unstable();
            prop_assert_eq!(hashes, model.indexed_hashes());
            prop_assert_eq!(pool.counts(), model.counts());
            for slot in 0..slots {
                prop_assert_eq!(pool.state(slot), Some(model.state(slot)), "slot {} after {:?}", slot, op);
                prop_assert_eq!(pool.generation(slot), Some(model.generation(slot)));
            }
        }
    }
}

/// Names are few, so that they are often reused and often held by blocks that differ.
fn op() -> impl Strategy<Value = Op> {
    let pick = 0usize..10;
    prop_oneof![
        (prop::collection::vec(0u32..3, 0..4), 0u64..2)
            .prop_map(|(path, seed)| Op::Find { path, seed }),
        (0usize..4).prop_map(Op::Reserve),
        pick.clone().prop_map(Op::Fill),
        pick.clone().prop_map(Op::Fill),
        (
            pick.clone(),
            0u64..6,
            prop::option::of(0u64..4),
            0u64..2,
            0u32..3
        )
            .prop_map(|(pick, hash, parent, seed, token)| Op::Seal {
                pick,
                hash,
                parent,
                seed,
                token
            }),
        (pick.clone(), 0u64..6, Just(None), Just(0), Just(0)).prop_map(
            |(pick, hash, parent, seed, token)| Op::Seal {
                pick,
                hash,
                parent,
                seed,
                token
            }
        ),
        pick.clone().prop_map(Op::Pin),
        pick.clone().prop_map(Op::Unpin),
        pick.clone().prop_map(Op::Unpin),
        pick.clone().prop_map(Op::Free),
        pick.clone().prop_map(Op::Quarantine),
        pick.prop_map(Op::Settle),
    ]
}

/// Runs one operation on both, on a block for which it is allowed; skips it where there is none.
fn apply(pool: &mut Pool, model: &mut Model, op: &Op) {
    use State::{Cached, Filling, Quarantined, Reserved, Sealed};
    let choose = |pick: usize, states: &[State]| choose(pool, pick, states);
    match op {
        Op::Find { path, seed } => find(pool, model, path, *seed),
        Op::Reserve(n) => assert_eq!(pool.reserve(*n), model.reserve(*n)),
        Op::Fill(pick) => {
            let Some(slot) = choose(*pick, &[Reserved]) else {
                return;
            };
            assert!(pool.fill(slot));
            model.enter(slot.slot, Filling);
        }
        Op::Seal {
            pick,
            hash,
            parent,
            seed,
            token,
        } => {
            let Some(slot) = choose(*pick, &[Filling]) else {
                return;
            };
            let seal = Seal {
                hash: *hash,
                parent: *parent,
                seed: *seed,
                tokens: [*token; BLOCK_TOKENS as usize].into(),
            };
            assert!(pool.seal(slot, seal.clone()));
            model.seal(slot.slot, seal);
        }
        Op::Pin(pick) => {
            let Some(slot) = choose(*pick, &[Sealed, Cached]) else {
                return;
            };
            assert!(pool.pin(slot));
            model.pin(slot.slot);
        }
        Op::Unpin(pick) => {
            let Some(slot) = choose(*pick, &[Sealed]) else {
                return;
            };
            assert!(pool.unpin(slot));
            model.unpin(slot.slot);
        }
        Op::Free(pick) => {
            let Some(slot) = choose(*pick, &[Reserved, Filling]) else {
                return;
            };
            assert!(pool.free(slot));
            model.free(slot.slot);
        }
        Op::Quarantine(pick) => {
            let Some(slot) = choose(*pick, &[Reserved, Filling]) else {
                return;
            };
            assert!(pool.quarantine(slot));
            model.enter(slot.slot, Quarantined);
        }
        Op::Settle(pick) => {
            let Some(slot) = choose(*pick, &[Quarantined]) else {
                return;
            };
            assert!(pool.settle(slot));
            model.free(slot.slot);
        }
    }
}

/// Both find the same blocks of a path.
fn find(pool: &mut Pool, model: &mut Model, path: &[u32], seed: u64) {
    let hashes: Vec<u64> = path.iter().map(|t| u64::from(*t)).collect();
    let tokens: Vec<u32> = path.iter().flat_map(|t| [*t, *t]).collect();
    let found = pool.find(&hashes, &tokens, BLOCK_TOKENS, seed);
    assert_eq!(found, model.find(&hashes, &tokens, seed));
}

fn choose(pool: &Pool, pick: usize, states: &[State]) -> Option<SlotRef> {
    let fits: Vec<u32> = (0..pool.counts().total)
        .filter(|s| pool.state(*s).is_some_and(|state| states.contains(&state)))
        .collect();
    let slot = *fits.get(pick % fits.len().max(1))?;
    Some(SlotRef {
        slot,
        generation: pool.generation(slot)?,
    })
}
