//! One engine step as a value: which rows run, on which blocks, and what is drawn from each.
//!
//! This module never touches memory or a model; it is the language between the worker's core, which
//! writes a [`StepPlan`], and an engine, which answers with a [`StepResult`].

use std::sync::Arc;

use bus_schemas::Sampling;

/// What an engine shall do in one step. Rows are independent; the result of one must not depend on the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepPlan {
    /// Counts steps of one worker epoch; the answer carries it.
    pub number: u64,
    /// Blocks to copy whole, source slot to destination slot, before any row runs.
    pub copies: Vec<(u32, u32)>,
    /// At least one, unless only copies are wanted.
    pub rows: Vec<Row>,
}

/// Consecutive tokens of one sequence: a prefill chunk, or one decode token.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Position of the first token, counted from the start of the prompt. Keys and values of all earlier positions are in `blocks`.
    pub start: u32,
    /// The tokens to run, at least one. Their keys and values are written into `blocks`.
    pub tokens: Vec<u32>,
    /// Slots of the sequence's blocks in order, enough for `start + tokens.len()` positions.
    pub blocks: Vec<u32>,
    /// What to draw from the logits after the last token: nothing for a chunk that is not the last, one per choice else.
    pub draws: Vec<Draw>,
}

/// One token to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// The choice; with the seed and the position it keys the counter-based generator.
    pub choice: u16,
    /// Position that the drawn token will have.
    pub position: u32,
    /// How.
    pub sampling: Arc<Sampling>,
    /// Prompt and output so far; present if the sampling needs it.
    pub history: Option<History>,
    /// Ids that must not be drawn (end ids, while fewer than `min_tokens` were made).
    pub banned: Arc<[u32]>,
}

/// What came before, for penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The prompt.
    pub prompt: Arc<[u32]>,
    /// The choice's output so far.
    pub output: Vec<u32>,
}

/// One drawn token.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// Its log-probability under the unmodified distribution; 0 unless asked for.
    pub logprob: f32,
    /// The most likely ids with their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// What an engine did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepResult {
    /// The plan's number.
    pub number: u64,
    /// For each row, one token per draw.
    pub rows: Vec<Vec<Drawn>>,
    /// How long the step took.
    pub elapsed_us: u64,
}
