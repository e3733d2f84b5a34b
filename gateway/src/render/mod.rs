//! The internal event stream as OpenAI JSON: chunk by chunk, or as one body.
//!
//! Pure: both doors and both forms draw from here, so that a collected stream equals the whole body. It
//! never frames (`data:`, headers): that is the doors' work.

mod chunk;
mod logprobs;
mod shape;
mod whole;

use std::sync::Arc;

use engine::text::TextModel;

pub use self::{chunk::Chunks, whole::Whole};

/// Which of the two APIs an answer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

/// What every rendering of one answer has in common.
#[derive(Clone, Debug)]
pub struct Style {
    /// Which API.
    pub dialect: Dialect,
    /// `chatcmpl-...` or `cmpl-...`.
    pub id: String,
    /// Name of the model, as the client knows it.
    pub model: String,
    /// Unix seconds.
    pub created: u64,
    /// To spell tokens.
    pub text: Arc<TextModel>,
    /// How many choices there are, over all prompts.
    pub choices: usize,
    /// With log-probabilities.
    pub logprobs: bool,
    /// With token ids.
    pub token_ids: bool,
    /// A stream ends with the usage.
    pub include_usage: bool,
}
