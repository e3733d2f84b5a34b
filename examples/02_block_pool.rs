//! 2. The life of a block: free, reserved, filling, sealed, cached, and found again.
//!
//! A worker keeps books of its memory in a pool. It never writes a byte; it says which block may be written by whom.
//! A hit is compared token by token, because a name only finds.
//! Run it with `cargo run -p examples --example 02_block_pool`.

use anyhow::{Context, ensure};
use bus_schemas::messages::SlotRef;
use logic::{
    hash,
    kv::{self, Pool, Seal},
};

/// Small blocks, so that the sequence below fills three.
const BLOCK_TOKENS: u32 = 4;
const BLOCKS: u32 = 8;
const SEED: u64 = 0;

/// Computes a sequence, lets it go, and finds its beginning again.
///
/// # Errors
/// Something is not as the text above says.
pub fn main() -> anyhow::Result<()> {
    let mut pool = Pool::new(BLOCKS, &[]);
    let first: Vec<u32> = (100..112).collect();
    let blocks = compute(&mut pool, &first)?;
    println!("computed   {:?}", pool.counts());
    for block in blocks.iter().rev() {
        ensure!(pool.unpin(*block), "a sealed block has a user");
    }
    println!("let go     {:?}", pool.counts());

    // The same two blocks, then another ending.
    let mut second = first[..8].to_vec();
    second.extend([7, 7, 7, 7]);
    let names = hash::sequence_hashes(SEED, &second, BLOCK_TOKENS);
    let found = pool.find(&names, &second, BLOCK_TOKENS, SEED);
    println!("found      {} of {} blocks", found.len(), names.len());
    ensure!(found == blocks[..2], "the shared beginning is cached");

    // All or nothing: two blocks are pinned, so at most six can be had.
    ensure!(
        pool.reserve(7).is_none(),
        "pinned blocks are not given away"
    );
    let rest = pool.reserve(6).context("cached blocks give way")?;
    println!("reserved   {:?}", pool.counts());
    ensure!(rest.len() == 6);
    kv::check(&pool)?;
    Ok(())
}

/// What a prefill does to the books: reserve, fill, seal. The blocks stay pinned.
fn compute(pool: &mut Pool, tokens: &[u32]) -> anyhow::Result<Vec<SlotRef>> {
    let names = hash::sequence_hashes(SEED, tokens, BLOCK_TOKENS);
    let blocks = pool.reserve(names.len()).context("the pool is full")?;
    let mut parent = None;
    let parts = tokens.chunks_exact(BLOCK_TOKENS as usize);
    for ((block, name), tokens) in blocks.iter().zip(names).zip(parts) {
        let seal = Seal {
            hash: name,
            parent,
            seed: SEED,
            tokens: tokens.into(),
        };
        ensure!(pool.fill(*block) && pool.seal(*block, seal), "out of order");
        parent = Some(name);
    }
    Ok(blocks)
}
