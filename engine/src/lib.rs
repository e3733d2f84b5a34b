//! Engines: what runs a step plan on the memory of a worker.
//!
//! Scripted, simulated, or a real decoder on CPUs. An engine never decides what runs next, never talks to the bus
//! or the fabric, and touches no block that its plan does not name. Start reading at [`Engine`].

use std::sync::Arc;

use gpu::Region;
use logic::{
    batch::{StepPlan, StepResult},
    text::Vocabulary,
};

/// What an engine needs and offers, fixed for its life.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of one KV block of `block_tokens` tokens.
    pub block_bytes: usize,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Longest sequence, prompt and output together.
    pub context_tokens: u32,
    /// Ids to bytes, and the ids that end a text.
    pub vocabulary: Arc<dyn Vocabulary>,
}

/// Why a step did not run. The engine is usable afterwards unless it says `Fatal`.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The plan names slots, ids or positions that do not exist. Nothing was written.
    #[error("the step plan is not valid: {0}")]
    Plan(String),
    /// The device or the backend broke; the worker must restart.
    #[error("the engine failed: {0}")]
    Fatal(String),
}

/// Runs batches. One thread calls it; it may take as long as it needs.
pub trait Engine: Send {
    /// What it needs and offers.
    fn shape(&self) -> &Shape;
    /// Runs one step: copies, then every row, writing keys and values into `kv` and drawing tokens.
    ///
    /// # Errors
    /// [`EngineError`].
    fn step(&mut self, plan: &StepPlan, kv: &Region) -> Result<StepResult, EngineError>;
}
pub mod card;
pub mod checkpoint;
pub mod model;
pub mod sample;
pub mod scripted;
pub mod simulated;
pub mod text;
