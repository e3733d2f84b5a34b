//! The law of the pool: every block in exactly one state, the sum right, and every index true.
//!
//! Used by debug assertions, property tests and the simulator. It reads and never repairs.

use super::{Counts, Pool, State};

/// What does not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block pool is inconsistent: {0}")]
pub struct Fault(String);

/// Checks everything that must hold between two operations on a pool.
///
/// # Errors
/// [`Fault`] names the first thing that does not hold.
pub fn check(pool: &Pool) -> Result<(), Fault> {
    check_counts(pool)?;
    for slot in 0..pool.counts.total {
        check_block(pool, slot)?;
    }
    let mut free = pool.free.clone();
    free.sort_unstable();
    free.dedup();
    hold(free.len() == pool.counts.free as usize, || {
        "a free slot is listed twice".to_owned()
    })?;
    let hidden = pool.blocks.iter().filter(|b| b.seal.is_some()).count() - pool.index.len();
    hold(hidden == pool.index.hidden_len(), || {
        "a hidden block has no seal".to_owned()
    })
}

fn check_counts(pool: &Pool) -> Result<(), Fault> {
    let total = pool.counts.total;
    let mut counts = Counts {
        total,
        ..Counts::default()
    };
    for block in &pool.blocks {
        *counts.of(block.state) += 1;
    }
    let Counts {
        free,
        reserved,
        filling,
        sealed,
        cached,
        quarantined,
        total: _,
    } = counts;
    let sum = free + reserved + filling + sealed + cached + quarantined;
    hold(counts == pool.counts, || {
        format!("{:?} is counted, {counts:?} is true", pool.counts)
    })?;
    hold(sum == total, || {
        format!("{sum} of {total} blocks are accounted for")
    })?;
    hold(pool.free.len() == free as usize, || {
        format!("{} slots listed free", pool.free.len())
    })?;
    hold(pool.cached.len() == cached as usize, || {
        format!("{} listed cached", pool.cached.len())
    })
}

fn check_block(pool: &Pool, slot: u32) -> Result<(), Fault> {
    let block = &pool.blocks[slot as usize];
    let key = (block.used, slot);
    let is = |state| block.state == state;
    let indexed = pool.index.contains(slot);
    let faults = [
        (
            is(State::Sealed) != (block.pins > 0),
            "pins and state disagree",
        ),
        (
            (is(State::Sealed) || is(State::Cached)) != block.seal.is_some(),
            "seal and state",
        ),
        (
            is(State::Cached) != pool.cached.contains(&key),
            "is not listed as cached, or wrongly",
        ),
        (
            is(State::Cached) && !indexed,
            "is cached and cannot be found",
        ),
        (
            (is(State::Cached) && !pool.index.has_children(slot)) != pool.leaves.contains(&key),
            "is not listed as a leaf, or wrongly",
        ),
        (
            indexed && block.seal.is_none(),
            "is indexed and holds nothing",
        ),
    ];
    for (wrong, what) in faults {
        hold(!wrong, || format!("slot {slot} ({:?}) {what}", block.state))?;
    }
    let Some(seal) = &block.seal else {
        return Ok(());
    };
    let found = pool.index.get(seal.hash) == Some(slot);
    hold(found == indexed, || {
        format!("slot {slot} is not found under its own hash")
    })?;
    let hidden = pool.index.is_hidden(seal.hash, slot);
    hold(hidden != indexed, || {
        format!("slot {slot} is neither indexed nor hidden, or both")
    })?;
    let parent = seal.parent.and_then(|hash| pool.index.get(hash));
    hold(!indexed || pool.index.parent(slot) == parent, || {
        format!("slot {slot} lost its parent")
    })?;
    let rooted = parent.is_some() || seal.parent.is_none();
    hold(!indexed || rooted, || {
        format!("slot {slot} is indexed without its parent")
    })
}

fn hold(holds: bool, fault: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault(fault())) }
}
