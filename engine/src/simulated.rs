//! An engine that takes the time of a real one and speaks from a script, as a rule `script/hash`.
//!
//! Its time comes from a [`Profile`]: a few constants, or a table of measured passes. It never computes anything
//! a model would; its blocks and tokens are those of the scripted engine, and checked like them.

mod profile;
mod table;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gpu::Region;
use logic::{
    batch::{Row, StepPlan, StepResult},
    text::Vocabulary,
};

pub use self::profile::{Linear, Profile, ProfileError};
pub use self::table::Table;
use crate::{
    Engine, EngineError, Shape,
    scripted::{Counters, ScriptError, ScriptedConfig, ScriptedEngine},
};

/// One pass of a model, as far as its time depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Sequences that go on by one token.
    pub decodes: u32,
    /// Tokens of all of them together.
    pub decode_context: u64,
    /// Chunks of prompts: new tokens, and tokens before them.
    pub prefills: Vec<(u32, u32)>,
}

impl Pass {
    /// The pass that a plan asks for. A row of one token that draws counts as a decode.
    #[must_use]
    pub fn of(plan: &StepPlan) -> Self {
        let mut pass = Self::default();
        for row in &plan.rows {
            pass.add(row);
        }
        pass
    }

    fn add(&mut self, row: &Row) {
        let tokens = u32::try_from(row.tokens.len()).unwrap_or(u32::MAX);
        if tokens == 1 && row.start > 0 && !row.draws.is_empty() {
            self.decodes += 1;
            self.decode_context += u64::from(row.start) + 1;
        } else {
            self.prefills.push((tokens, row.start));
        }
    }
}

/// Runs a script in the time of a profile.
#[derive(Debug)]
pub struct SimulatedEngine {
    profile: Profile,
    inner: ScriptedEngine,
}

impl SimulatedEngine {
    /// An engine of this profile. The script and the delays of `config` count on top.
    ///
    /// # Errors
    /// [`ScriptError`] if blocks of this size cannot be.
    pub fn new(profile: Profile, config: ScriptedConfig) -> Result<Self, ScriptError> {
        Ok(Self {
            profile,
            inner: ScriptedEngine::new(config)?,
        })
    }

    /// The same for the tokenizer of a real model; see [`ScriptedEngine::speaking`].
    ///
    /// # Errors
    /// [`ScriptError`].
    pub fn speaking(
        profile: Profile,
        config: ScriptedConfig,
        vocabulary: Arc<dyn Vocabulary>,
    ) -> Result<Self, ScriptError> {
        Ok(Self {
            profile,
            inner: ScriptedEngine::speaking(config, vocabulary)?,
        })
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.inner.counters()
    }
}

impl Engine for SimulatedEngine {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn step(&mut self, plan: &StepPlan, kv: &Region) -> Result<StepResult, EngineError> {
        let begun = Instant::now();
        let mut result = self.inner.step(plan, kv)?;
        if !plan.rows.is_empty() {
            let predicted = Duration::from_micros(self.profile.pass_us(&Pass::of(plan)));
            thread::sleep(predicted.saturating_sub(begun.elapsed()));
        }
        result.elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(result)
    }
}
