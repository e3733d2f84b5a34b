//! Users as a worker has them, with hashes that collide all the time: no hit may be a wrong one.

use bus_schemas::messages::SlotRef;
use logic::kv::{self, Pool, Seal, State};
use proptest::prelude::*;

/// Names in use: so few that nearly every block shares its name with a different one.
const NAMES: u64 = 5;

/// One request: its tokens (one per block), and the pinned blocks that hold the first of them.
struct User {
    tokens: Vec<u32>,
    table: Vec<SlotRef>,
}

/// What was truly written into each slot: all tokens that its values depend on.
type Truth = Vec<Vec<u32>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_hit_is_never_a_wrong_one_although_names_collide(
        ops in prop::collection::vec((0u8..4, 0usize..4, prop::collection::vec(0u32..3, 1..5)), 1..120),
    ) {
        let slots = 12;
        let mut pool = Pool::new(slots, &[]);
        let mut truth: Truth = vec![Vec::new(); slots as usize];
        let mut users: Vec<User> = Vec::new();
        for (what, pick, tokens) in ops {
            let pick = pick % users.len().max(1);
            match what {
                0 => users.push(start(&mut pool, &truth, tokens)),
                1 | 2 if pick < users.len() => compute(&mut pool, &mut truth, &mut users[pick]),
                3 if pick < users.len() => end(&mut pool, users.swap_remove(pick)),
                _ => {}
            }
            prop_assert_eq!(kv::check(&pool), Ok(()));
        }
        for user in users {
            end(&mut pool, user);
        }
        prop_assert_eq!(pool.available(), slots);
    }
}

fn start(pool: &mut Pool, truth: &Truth, tokens: Vec<u32>) -> User {
    let hashes: Vec<u64> = (1..=tokens.len()).map(|n| name(&tokens[..n])).collect();
    let table = pool.find(&hashes, &tokens, 1, 0);
    for (n, slot) in (1..).zip(&table) {
        assert_eq!(
            truth[slot.slot as usize],
            tokens[..n],
            "block {} is somebody else's",
            n - 1
        );
    }
    User { tokens, table }
}

/// Computes the next block of a user, if it lacks one and there is memory.
fn compute(pool: &mut Pool, truth: &mut Truth, user: &mut User) {
    let done = user.table.len();
    if done == user.tokens.len() {
        return;
    }
    let Some(slot) = pool.reserve(1).map(|slots| slots[0]) else {
        return;
    };
    assert!(pool.fill(slot));
    truth[slot.slot as usize] = user.tokens[..=done].to_vec();
    let parent = (done > 0).then(|| name(&user.tokens[..done]));
    let hash = name(&user.tokens[..=done]);
    assert!(pool.seal(
        slot,
        Seal {
            hash,
            parent,
            seed: 0,
            tokens: [user.tokens[done]].into()
        }
    ));
    user.table.push(slot);
}

fn end(pool: &mut Pool, user: User) {
    for slot in user.table.into_iter().rev() {
        assert_eq!(pool.state(slot.slot), Some(State::Sealed));
        assert!(pool.unpin(slot));
    }
}

/// A very bad hash, but one that chains: it depends on the name before and on the block alone.
fn name(tokens: &[u32]) -> u64 {
    tokens
        .iter()
        .fold(0, |name, token| (name * 3 + u64::from(*token) + 1) % NAMES)
}
