//! Blocks that are wrong in any way show in the next token, whatever the script.

use std::sync::atomic::Ordering::Relaxed;

use engine::scripted::{BROKEN, expected};
use gpu::Region;

use super::rig::{
    BLOCK_BYTES, BLOCK_TOKENS, SEED, config, engine, generate, prompt, region, row, step,
};

/// Three blocks, the last one not full.
const BLOCKS: [u32; 3] = [5, 9, 2];
const SCRIPTS: [&str; 4] = ["script/hash", "script/echo", "script/text", "script/count"];

/// The ids of a prompt whose cells, but for the last one, are in the blocks.
fn prefilled(script: &str, kv: &Region) -> Vec<u32> {
    let ids = prompt("a prompt of some forty bytes, or so it is.");
    step(
        &mut engine(script),
        kv,
        row(&ids, 0, ids.len() - 1, &BLOCKS, None),
    );
    ids
}

/// Draws from these blocks with an engine that has never seen them.
fn next(script: &str, kv: &Region, ids: &[u32], blocks: &[u32]) -> u32 {
    let mut engine = engine(script);
    let drawn = step(
        &mut engine,
        kv,
        row(ids, ids.len() - 1, ids.len(), blocks, Some(SEED)),
    )[0];
    let broken = engine.counters().broken.load(Relaxed);
    assert_eq!(
        drawn == BROKEN,
        broken > 0,
        "what is drawn and what is counted agree"
    );
    drawn
}

fn right(script: &str, ids: &[u32]) -> u32 {
    expected(config(script).script, ids, 0, SEED, 1)[0]
}

#[test]
fn another_engine_goes_on_from_the_blocks_alone() {
    for script in SCRIPTS {
        let kv = region();
        let ids = prefilled(script, &kv);
        assert_eq!(
            next(script, &kv, &ids, &BLOCKS),
            right(script, &ids),
            "{script}"
        );
    }
}

#[test]
fn any_single_corrupted_byte_shows() {
    let kv = region();
    let ids = prefilled("script/echo", &kv);
    let cell_bytes = BLOCK_BYTES / BLOCK_TOKENS as usize;
    let written = (ids.len() - 1) * cell_bytes;
    for byte in 0..written {
        let (slot, offset) = (BLOCKS[byte / BLOCK_BYTES], byte % BLOCK_BYTES);
        let mut good = [0];
        kv.read(slot, offset, &mut good);
        kv.write(slot, offset, &[good[0] ^ 1 << (byte % 8)]);
        assert_eq!(
            next("script/echo", &kv, &ids, &BLOCKS),
            BROKEN,
            "byte {byte}"
        );
        // The row itself wrote the last cell, which must not hide what was before it.
        kv.write(slot, offset, &good);
    }
    assert_eq!(
        next("script/echo", &kv, &ids, &BLOCKS),
        right("script/echo", &ids)
    );
}

#[test]
fn a_missing_block_shows() {
    for script in SCRIPTS {
        for missing in BLOCKS {
            let kv = region();
            let ids = prefilled(script, &kv);
            kv.write(missing, 0, &[0; BLOCK_BYTES]);
            assert_eq!(
                next(script, &kv, &ids, &BLOCKS),
                BROKEN,
                "{script}, slot {missing}"
            );
        }
    }
}

#[test]
fn blocks_in_the_wrong_order_show() {
    let kv = region();
    let ids = prefilled("script/text", &kv);
    assert_eq!(next("script/text", &kv, &ids, &[9, 5, 2]), BROKEN);
}

#[test]
fn a_stale_block_shows() {
    let kv = region();
    let other = prompt("another prompt, which had these blocks before.");
    step(
        &mut engine("script/hash"),
        &kv,
        row(&other, 0, other.len(), &[20, 21, 22], None),
    );
    let ids = prefilled("script/hash", &kv);
    for stale in 0..BLOCKS.len() {
        let mut blocks = BLOCKS;
        blocks[stale] = 20 + stale as u32;
        // A wrong first block is a sound beginning, so the break shows where the second one follows.
        assert_eq!(
            next("script/hash", &kv, &ids, &blocks),
            BROKEN,
            "block {stale}"
        );
    }
}

#[test]
fn a_torn_block_shows() {
    let kv = region();
    let ids = prefilled("script/hash", &kv);
    let other = prompt("another prompt, which is half copied over it.");
    step(
        &mut engine("script/hash"),
        &kv,
        row(&other, 0, other.len(), &[20, 21, 22], None),
    );
    let mut half = vec![0; BLOCK_BYTES / 2];
    kv.read(21, 0, &mut half);
    kv.write(BLOCKS[1], 0, &half);
    assert_eq!(next("script/hash", &kv, &ids, &BLOCKS), BROKEN);
}

#[test]
fn a_copy_goes_on_and_a_forgotten_copy_shows() {
    let (mut engine, kv) = (engine("script/hash"), region());
    let ids = prompt("shared by two choices");
    step(&mut engine, &kv, row(&ids, 0, ids.len() - 1, &[0, 1], None));
    let mut plan = super::rig::plan(vec![row(
        &ids,
        ids.len() - 1,
        ids.len(),
        &[0, 8],
        Some(SEED),
    )]);
    let forgotten = engine::Engine::step(&mut engine, &plan, &kv).expect("a valid plan");
    assert_eq!(forgotten.rows[0][0].id, BROKEN);
    plan.copies = vec![(1, 8)];
    let copied = engine::Engine::step(&mut engine, &plan, &kv).expect("a valid plan");
    assert_eq!(copied.rows[0][0].id, right("script/hash", &ids));
    assert_eq!(engine.counters().copies.load(Relaxed), 1);
}

#[test]
fn whole_answers_never_count_a_break() {
    for script in SCRIPTS {
        let (mut engine, kv) = (engine(script), region());
        let blocks: Vec<u32> = (0..12).collect();
        let ids = prompt("say it");
        let answer = generate(&mut engine, &kv, &blocks, &ids, &[], 150);
        assert_eq!(
            answer,
            expected(config(script).script, &ids, 0, SEED, 150),
            "{script}"
        );
        assert_eq!(engine.counters().broken.load(Relaxed), 0);
    }
}
