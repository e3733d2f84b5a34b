//! The law of the pool: every block in exactly one state, and every book in agreement.
//!
//! Shared by debug assertions, property tests and the simulator. It changes nothing.

use super::{
    Pool, State,
    pool::{Counts, Slot},
};

/// What does not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Counts of states and the states themselves.
    #[error("counts say {said:?}, the slots say {found:?}")]
    Counts {
        /// Kept.
        said: Counts,
        /// Counted.
        found: Counts,
    },
    /// A slot breaks the rule of its state.
    #[error("slot {slot} is {state:?} and breaks its rule: {rule}")]
    Slot {
        /// Which.
        slot: u32,
        /// Its state.
        state: State,
        /// The rule.
        rule: &'static str,
    },
    /// A list has entries that belong elsewhere.
    #[error("the {0} has wrong entries")]
    List(&'static str),
}

/// Checks a pool.
///
/// # Errors
/// The first [`Fault`].
pub fn check(pool: &Pool) -> Result<(), Fault> {
    let mut found = Counts {
        total: u32::try_from(pool.slots.len()).unwrap_or(u32::MAX),
        ..Counts::default()
    };
    for (index, slot) in (0u32..).zip(&pool.slots) {
        *found.of(slot.state) += 1;
        if let Some(rule) = broken_rule(pool, index, slot) {
            return Err(Fault::Slot {
                slot: index,
                state: slot.state,
                rule,
            });
        }
    }
    let said = pool.counts();
    if said != found {
        return Err(Fault::Counts { said, found });
    }
    if pool.free.len() != found.free as usize {
        return Err(Fault::List("free list"));
    }
    if pool.cached.len() != found.cached as usize {
        return Err(Fault::List("cache"));
    }
    if pool.index.len() != pool.slots.iter().filter(|s| s.seal.is_some()).count() {
        return Err(Fault::List("index"));
    }
    Ok(())
}

fn broken_rule(pool: &Pool, index: u32, slot: &Slot) -> Option<&'static str> {
    let indexed = slot
        .seal
        .as_ref()
        .is_none_or(|s| pool.index.get(&s.hash) == Some(&index));
    match slot.state {
        _ if !indexed => Some("a sealed identity is the one in the index"),
        State::Free | State::Reserved | State::Filling | State::Quarantined
            if slot.pins != 0 || slot.seal.is_some() =>
        {
            Some("has neither users nor an identity")
        }
        State::Sealed if slot.pins == 0 => Some("has at least one user"),
        State::Cached if slot.pins != 0 || slot.seal.is_none() => {
            Some("has no user and can be found")
        }
        State::Cached if !pool.cached.contains(&(slot.used, index)) => {
            Some("is in the cache's order")
        }
        State::Free
        | State::Reserved
        | State::Filling
        | State::Quarantined
        | State::Sealed
        | State::Cached => None,
    }
}
