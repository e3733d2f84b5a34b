//! An engine without a model: its tokens come from a script, by way of the block bytes.
//!
//! Every position leaves a cell in its block; to draw, the engine reads the cells of the whole sequence
//! back and checks that each follows from the one before. So a block that is wrong, missing, stale or torn shows
//! as the token [`BROKEN`], which no script ever says. It never remembers a sequence: all it knows is in the blocks.
//! Start reading at [`ScriptedEngine`], then [`Script`].

mod book;
mod cell;
mod check;
mod script;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use bus_schemas::limits::BLOCK_TOKENS;
use gpu::Region;
use logic::{
    batch::{Draw, Drawn, Row, StepPlan, StepResult},
    text::Vocabulary,
};

pub use self::{
    book::Counters,
    script::{Key, Script, ScriptError, TEXT, expected},
};
use self::{
    book::{Book, Kind},
    cell::{Layout, Reading},
};
use crate::{Engine, EngineError, Shape, text::TextModel};

/// What is drawn where the blocks do not hold what they should.
pub const BROKEN: u32 = 0;
/// Bytes of a block unless configured otherwise: enough that moving one is a real transfer.
const BLOCK_BYTES: usize = 16 * 1024;
/// Context unless configured otherwise, that of the byte-level text model.
const CONTEXT_TOKENS: u32 = 32_768;

/// How a scripted engine behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptedConfig {
    /// What it says.
    pub script: Script,
    /// Bytes of a block: a multiple of 8 for each token, at least 16.
    pub block_bytes: usize,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Longest sequence.
    pub context_tokens: u32,
    /// Time that each step takes at least.
    pub step_delay: Duration,
    /// Time on top for each token that is run.
    pub token_delay: Duration,
    /// After so many draws the engine breaks: with 0 before the first token, with 1 after it.
    pub fail_after_draws: Option<u64>,
}

impl ScriptedConfig {
    /// Says `script`, without delays or failures.
    #[must_use]
    pub const fn new(script: Script) -> Self {
        Self {
            script,
            block_bytes: BLOCK_BYTES,
            block_tokens: BLOCK_TOKENS,
            context_tokens: CONTEXT_TOKENS,
            step_delay: Duration::ZERO,
            token_delay: Duration::ZERO,
            fail_after_draws: None,
        }
    }
}

/// Runs a script.
#[derive(Debug)]
pub struct ScriptedEngine {
    config: ScriptedConfig,
    shape: Shape,
    layout: Layout,
    book: Book,
    counters: Arc<Counters>,
    /// Kept between draws so that none allocates.
    reading: Reading,
}

impl ScriptedEngine {
    /// An engine as configured, of byte-level ids.
    ///
    /// # Errors
    /// [`ScriptError`] if blocks of this size cannot be.
    pub fn new(config: ScriptedConfig) -> Result<Self, ScriptError> {
        Self::speaking(config, TextModel::byte_level("script").vocabulary())
    }

    /// The same for another tokenizer. Only `script/hash` makes sense there: what its letters spell is chance.
    ///
    /// # Errors
    /// [`ScriptError`] if blocks of this size cannot be, or the vocabulary is too small for letters.
    pub fn speaking(
        config: ScriptedConfig,
        vocabulary: Arc<dyn Vocabulary>,
    ) -> Result<Self, ScriptError> {
        script::check_vocabulary(vocabulary.len())?;
        let layout = Layout::new(config.block_bytes, config.block_tokens)?;
        let shape = Shape {
            block_bytes: config.block_bytes,
            block_tokens: config.block_tokens,
            context_tokens: config.context_tokens,
            vocabulary,
        };
        Ok(Self {
            config,
            shape,
            layout,
            book: Book::default(),
            counters: Arc::default(),
            reading: Reading::default(),
        })
    }

    /// What it has done so far, to be watched from anywhere.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn fail_if_due(&self, plan: &StepPlan) -> Result<(), EngineError> {
        let draws = plan
            .rows
            .iter()
            .map(|row| row.draws.len() as u64)
            .sum::<u64>();
        let after = self.counters.drawn.load(Relaxed) + draws;
        match self.config.fail_after_draws {
            Some(most) if after > most => Err(EngineError::Fatal(format!(
                "as scripted, after {most} draws"
            ))),
            _ => Ok(()),
        }
    }

    fn count(&self, row: &Row, kind: Kind) {
        let tokens = row.tokens.len() as u64;
        match kind {
            Kind::Begins => {
                self.counters.reused.fetch_add(row.start.into(), Relaxed);
                self.counters.prefilled.fetch_add(tokens, Relaxed);
            }
            Kind::Continues => {
                self.counters.prefilled.fetch_add(tokens, Relaxed);
            }
            Kind::Decodes => {
                self.counters.decoded.fetch_add(tokens, Relaxed);
            }
        }
        self.counters
            .drawn
            .fetch_add(row.draws.len() as u64, Relaxed);
    }

    fn run(&mut self, row: &Row, kv: &Region) -> Vec<Drawn> {
        self.layout.write(kv, row);
        let kind = self.book.kind(row, self.config.block_tokens);
        self.count(row, kind);
        let drawn = if row.draws.is_empty() {
            Vec::new()
        } else {
            self.read(row, kind, kv);
            row.draws.iter().map(|draw| self.draw(draw)).collect()
        };
        let sound = !drawn.is_empty() && self.reading.broken.is_none();
        self.book.leave(row, self.config.block_tokens, sound);
        drawn
    }

    /// Reads the sequence of a row back, as far as its script needs it.
    fn read(&mut self, row: &Row, kind: Kind, kv: &Region) {
        let end = row.start as usize + row.tokens.len();
        if kind == Kind::Decodes && !self.config.script.needs_tokens() {
            self.layout.follow(kv, &row.blocks, end, &mut self.reading);
        } else {
            self.layout.read(kv, &row.blocks, end, &mut self.reading);
        }
        if let Some(position) = self.reading.broken {
            self.counters.broken.fetch_add(1, Relaxed);
            let slot = row.blocks[position / self.config.block_tokens as usize];
            tracing::warn!(position, slot, end, "a block does not hold what it should");
        }
    }

    fn draw(&self, draw: &Draw) -> Drawn {
        let key = Key {
            seed: draw.sampling.seed,
            choice: draw.choice,
        };
        let script = &self.config.script;
        let id = match self.reading.broken {
            Some(_) => BROKEN,
            None => script.next(
                &self.reading.tokens,
                draw.position,
                self.reading.state,
                key,
                &draw.banned,
            ),
        };
        match draw.sampling.logprobs {
            None => Drawn {
                id,
                logprob: 0.0,
                top: Vec::new(),
            },
            Some(count) => Drawn {
                id,
                logprob: logprob(0),
                top: alternatives(id, count.into()),
            },
        }
    }
}

impl Engine for ScriptedEngine {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn step(&mut self, plan: &StepPlan, kv: &Region) -> Result<StepResult, EngineError> {
        let begun = Instant::now();
        let bounds = check::Bounds {
            layout: self.layout,
            vocab_size: self.shape.vocabulary.len(),
            context_tokens: self.config.context_tokens,
        };
        bounds.check(plan, kv).map_err(EngineError::Plan)?;
        self.fail_if_due(plan)?;
        for (from, to) in &plan.copies {
            kv.copy_slot(*from, *to);
            self.book.copy(*from, *to);
        }
        self.counters
            .copies
            .fetch_add(plan.copies.len() as u64, Relaxed);
        let rows = plan.rows.iter().map(|row| self.run(row, kv)).collect();
        self.counters.steps.fetch_add(1, Relaxed);
        let tokens = plan.rows.iter().map(|row| row.tokens.len()).sum::<usize>();
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let delay = self.config.token_delay.saturating_mul(tokens) + self.config.step_delay;
        thread::sleep(delay.saturating_sub(begun.elapsed()));
        let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(StepResult {
            number: plan.number,
            rows,
            elapsed_us,
        })
    }
}

/// The made-up distribution: the drawn token has one half, each further one half of the one before.
fn logprob(rank: usize) -> f32 {
    -(rank as f32 + 1.0) * std::f32::consts::LN_2
}

/// The drawn token first, then letters in order.
fn alternatives(id: u32, count: usize) -> Vec<(u32, f32)> {
    let others = (u32::from(b'a')..=u32::from(b'z')).filter(|letter| *letter != id);
    let ids = std::iter::once(id).chain(others).take(count);
    ids.enumerate()
        .map(|(rank, id)| (id, logprob(rank)))
        .collect()
}
