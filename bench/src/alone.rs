//! The scripted engine alone: the same loads as plans for its `step`, with nothing around it.
//!
//! What a cluster adds is the difference to this. It never caches a prefix and never samples time inside a step.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bus_schemas::Sampling;
use engine::{
    Engine,
    scripted::{ScriptedConfig, ScriptedEngine},
};
use gpu::Region;
use logic::batch::{Draw, Row, StepPlan};

use crate::{
    load::{Load, MODEL, Seen},
    random::Random,
    spread::quantile,
};

/// Bytes of a block, as `thalamus up` has them for scripts.
pub const BLOCK_BYTES: u32 = 4096;
/// Ids that the byte-level tokenizer makes of letters are their bytes.
const LETTER: u32 = b'a' as u32;

/// Runs a load's requests in batches of its connections for at least `time`.
///
/// # Errors
/// The engine refuses a plan.
pub fn run(load: Load, time: Duration) -> Result<Seen> {
    let script = MODEL.parse()?;
    let config = ScriptedConfig {
        block_bytes: BLOCK_BYTES as usize,
        ..ScriptedConfig::new(script)
    };
    let block_tokens = config.block_tokens as usize;
    let mut engine = ScriptedEngine::new(config)?;
    let each = (load.prompt + load.output as usize).div_ceil(block_tokens);
    let kv = Region::new(
        u32::try_from(each * load.connections)?,
        BLOCK_BYTES as usize,
    )?;
    let mut random = Random::new(3);
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < time {
        let batch = Instant::now();
        let mut rows: Vec<Row> = (0..load.connections)
            .map(|n| prompt(load, n, each, &mut random))
            .collect();
        for made in 0..load.output {
            let plan = StepPlan {
                number: u64::from(made),
                copies: Vec::new(),
                rows,
            };
            let result = engine.step(&plan, &kv)?;
            if made == 0 {
                first.push(batch.elapsed().as_secs_f64() * 1e3);
            }
            let ids = result.rows.iter().map(|drawn| drawn.first().map(|d| d.id));
            let ids: Option<Vec<u32>> = ids.collect();
            let ids = ids.context("every row draws")?;
            rows = plan
                .rows
                .into_iter()
                .zip(ids)
                .map(|(row, id)| next(row, id))
                .collect();
        }
        whole.push(batch.elapsed().as_secs_f64() * 1e3);
    }
    Ok(summary(load, first, whole, begun.elapsed()))
}

fn prompt(load: Load, number: usize, each: usize, random: &mut Random) -> Row {
    let blocks = number * each..(number + 1) * each;
    Row {
        start: 0,
        tokens: (0..load.prompt)
            .map(|_| LETTER + random.below(26) as u32)
            .collect(),
        blocks: blocks.map(|b| b as u32).collect(),
        draws: vec![Draw {
            choice: 0,
            position: load.prompt as u32,
            sampling: Arc::new(Sampling::default()),
            history: None,
            banned: Arc::new([]),
        }],
    }
}

/// The row of the token that was drawn.
fn next(mut row: Row, id: u32) -> Row {
    row.start += row.tokens.len() as u32;
    row.tokens = vec![id];
    row.draws[0].position = row.start + 1;
    row
}

fn summary(load: Load, mut first: Vec<f64>, mut whole: Vec<f64>, took: Duration) -> Seen {
    first.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    let requests = (whole.len() * load.connections) as u64;
    let requests_per_s = requests as f64 / took.as_secs_f64();
    Seen {
        requests,
        requests_per_s,
        tokens_per_s: requests_per_s * f64::from(load.output),
        first_ms_p50: quantile(&first, 0.5),
        first_ms_p99: quantile(&first, 0.99),
        whole_ms_p99: quantile(&whole, 0.99),
    }
}
