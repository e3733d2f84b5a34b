//! An engine with its blocks, and plans for it.

use std::sync::Arc;

use bus_schemas::Sampling;
use engine::{
    Engine,
    scripted::{Script, ScriptedConfig, ScriptedEngine},
    text::TextModel,
};
use gpu::Region;
use logic::batch::{Draw, Row, StepPlan};

/// Blocks of the region.
pub(crate) const SLOTS: u32 = 64;
/// Small blocks, so that corrupting every byte is quick.
pub(crate) const BLOCK_BYTES: usize = 512;
/// Tokens in a block.
pub(crate) const BLOCK_TOKENS: u32 = 16;

/// A configuration with small blocks.
pub(crate) fn config(script: &str) -> ScriptedConfig {
    let script: Script = script.parse().expect("a script's name");
    ScriptedConfig {
        block_bytes: BLOCK_BYTES,
        ..ScriptedConfig::new(script)
    }
}

/// An engine with small blocks.
pub(crate) fn engine(script: &str) -> ScriptedEngine {
    ScriptedEngine::new(config(script)).expect("small blocks are possible")
}

/// Blocks for it.
pub(crate) fn region() -> Arc<Region> {
    Region::new(SLOTS, BLOCK_BYTES).expect("32 KiB")
}

/// Ids of a prompt, as the byte-level tokenizer makes them.
pub(crate) fn prompt(text: &str) -> Vec<u32> {
    TextModel::byte_level("script/test")
        .encode(text, true)
        .expect("any text can be tokenized")
}

/// Text of ids, without special ones.
pub(crate) fn text(ids: &[u32]) -> String {
    TextModel::byte_level("script/test").decode(ids, true)
}

/// A draw after `position` tokens.
pub(crate) fn draw(position: usize, choice: u16, seed: u64) -> Draw {
    Draw {
        choice,
        position: position as u32,
        sampling: Arc::new(Sampling {
            seed,
            ..Sampling::default()
        }),
        history: None,
        banned: Arc::new([]),
    }
}

/// A row of `ids` from `start` on; it draws for choice 0 if it has a seed.
pub(crate) fn row(ids: &[u32], start: usize, end: usize, blocks: &[u32], seed: Option<u64>) -> Row {
    Row {
        start: start as u32,
        tokens: ids[start..end].to_vec(),
        blocks: blocks.to_vec(),
        draws: seed.map(|seed| draw(end, 0, seed)).into_iter().collect(),
    }
}

/// A plan of these rows.
pub(crate) fn plan(rows: Vec<Row>) -> StepPlan {
    StepPlan {
        number: 7,
        copies: Vec::new(),
        rows,
    }
}

/// Runs one row and gives the tokens it drew.
pub(crate) fn step(engine: &mut impl Engine, kv: &Region, row: Row) -> Vec<u32> {
    let mut result = engine.step(&plan(vec![row]), kv).expect("a valid plan");
    assert_eq!(result.number, 7);
    result
        .rows
        .remove(0)
        .into_iter()
        .map(|drawn| drawn.id)
        .collect()
}

/// Runs `prompt` in chunks of these sizes (the last one takes the rest), then decodes up to `count` tokens.
pub(crate) fn generate(
    engine: &mut impl Engine,
    kv: &Region,
    blocks: &[u32],
    prompt: &[u32],
    chunks: &[usize],
    count: usize,
) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    let mut start = 0;
    for chunk in chunks {
        let end = (start + chunk).min(prompt.len() - 1);
        if start < end {
            assert!(step(engine, kv, row(&ids, start, end, blocks, None)).is_empty());
            start = end;
        }
    }
    while ids.len() < prompt.len() + count {
        let drawn = step(engine, kv, row(&ids, start, ids.len(), blocks, Some(SEED)));
        start = ids.len();
        ids.push(drawn[0]);
        if drawn[0] == engine::text::END {
            break;
        }
    }
    ids.split_off(prompt.len())
}

/// Seed of the draws of [`generate`].
pub(crate) const SEED: u64 = 42;
