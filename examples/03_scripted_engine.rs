//! 3. Prefill here, decode there: two engines that share nothing but the bytes of blocks.
//!
//! The scripted engine has no model. It writes something into the block bytes for each token it sees, and draws the
//! next token only from what it reads there. So a block that is lost on the way never stays unnoticed.
//! Run it with `cargo run -p examples --example 03_scripted_engine`.

use std::sync::Arc;

use anyhow::ensure;
use bus_schemas::Sampling;
use engine::{
    Engine,
    scripted::{BROKEN, ScriptedConfig, ScriptedEngine},
    text::{END, TextModel},
};
use gpu::Region;
use logic::batch::{Draw, Row, StepPlan};

/// Blocks of each worker's memory.
const SLOTS: u32 = 8;

/// One worker: an engine, and its own memory.
struct Worker {
    engine: ScriptedEngine,
    memory: Arc<Region>,
}

/// Prefills in one worker, moves the blocks, decodes in another; then loses a block on purpose.
///
/// # Errors
/// Something is not as the text above says.
pub fn main() -> anyhow::Result<()> {
    let text = TextModel::byte_level("script/echo");
    let prompt = text.encode("Is anybody there?", true)?;
    let mut prefill = worker()?;
    let mut decode = worker()?;

    // All of the prompt but its last token, in one step; nothing is drawn.
    let last = prompt.len() - 1;
    let from = [0, 1];
    prefill.run(0, &prompt[..last], &from, false)?;

    // The receiver chooses where the blocks land.
    let to = [6, 3];
    for (from, to) in from.into_iter().zip(to) {
        carry(&prefill.memory, from, &decode.memory, to);
    }
    let mut ids = prompt.clone();
    while ids.last() != Some(&END) {
        let start = ids.len() - 1;
        let drawn = decode.run(start, &ids[start..], &[6, 3, 1, 2], true)?;
        ids.extend(drawn);
    }
    let answer = text.decode(&ids[prompt.len()..], true);
    println!("decoded: {answer}");
    ensure!(answer == "Is anybody there?", "the echo is exact");

    // The same again with the first block missing.
    decode.memory.write(6, 0, &[0; 64]);
    let drawn = decode.run(last, &prompt[last..], &[6, 3, 1, 2], true)?;
    println!("with a damaged block it draws {drawn:?}, which no script says");
    ensure!(drawn == [BROKEN], "a damaged block shows");
    Ok(())
}

fn worker() -> anyhow::Result<Worker> {
    let engine = ScriptedEngine::new(ScriptedConfig::new("script/echo".parse()?))?;
    let memory = Region::new(SLOTS, engine.shape().block_bytes)?;
    Ok(Worker { engine, memory })
}

impl Worker {
    /// Runs `tokens` from position `start` on, and draws the next one if asked to.
    fn run(
        &mut self,
        start: usize,
        tokens: &[u32],
        blocks: &[u32],
        draws: bool,
    ) -> anyhow::Result<Vec<u32>> {
        let draw = Draw {
            choice: 0,
            position: u32::try_from(start + tokens.len())?,
            sampling: Arc::new(Sampling::greedy()),
            history: None,
            banned: Arc::new([]),
        };
        let row = Row {
            start: u32::try_from(start)?,
            tokens: tokens.to_vec(),
            blocks: blocks.to_vec(),
            draws: draws.then_some(draw).into_iter().collect(),
        };
        let plan = StepPlan {
            rows: vec![row],
            ..StepPlan::default()
        };
        let result = self.engine.step(&plan, &self.memory)?;
        Ok(result.rows.iter().flatten().map(|drawn| drawn.id).collect())
    }
}

/// What a fabric does, without one.
fn carry(from: &Region, from_slot: u32, to: &Region, to_slot: u32) {
    let mut bytes = vec![0; from.slot_bytes()];
    from.read(from_slot, 0, &mut bytes);
    to.write(to_slot, 0, &bytes);
}
