//! A request as every node sees it, what it yields token by token, and how it ends.
//!
//! The boundary between prompt and output is never lost: `RequestSpec::prompt` never grows; ids that
//! were generated travel beside it.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{ids::RequestId, trace::Trace};

/// How the next token is drawn. All values are already validated by the gateway.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 means greedy.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Candidates kept; 0 is off.
    pub top_k: u32,
    /// Floor relative to the most likely token, in [0, 1); 0 is off.
    pub min_p: f32,
    /// Subtracted once per earlier occurrence in the output.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred in the output.
    pub presence_penalty: f32,
    /// Divides (or multiplies, when negative) logits of tokens seen in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Added to single logits.
    pub logit_bias: Vec<(u32, f32)>,
    /// Key of the counter-based generator; choice `i` draws from (seed, i, position).
    pub seed: u64,
    /// Alternatives to report with each token's log-probability; none reports nothing.
    pub logprobs: Option<u8>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: None,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Whether drawing needs the ids that came before.
    #[must_use]
    pub fn needs_history(&self) -> bool {
        self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.repetition_penalty != 1.0
    }
}

/// What ends a choice before its length does.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Texts that end the choice where they first appear in its output.
    pub strings: Vec<String>,
    /// Ids that end the choice, besides the model's own end ids.
    pub ids: Vec<u32>,
    /// Go on past the model's end ids.
    pub ignore_eos: bool,
    /// No end by id or string before this many tokens.
    pub min_tokens: u32,
}

/// All that a worker must know to run a request.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RequestSpec {
    /// Its identity.
    pub request: RequestId,
    /// Name of the model, as the client knows it.
    pub model: String,
    /// Whose request it is; blocks are never shared between tenants.
    pub tenant: String,
    /// Further separates cached blocks within a tenant; empty is none.
    pub salt: String,
    /// Prompt ids, at least one.
    pub prompt: Vec<u32>,
    /// How many choices.
    pub choices: u16,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What ends a choice.
    pub stops: Stops,
    /// Most tokens of each choice, at least 1; prompt + this fits the context.
    pub max_tokens: u32,
    /// Higher goes first; 0 is ordinary.
    pub priority: i8,
    /// The trace it belongs to, with the span of whoever sent this.
    pub trace: Trace,
}

/// One generated token.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Record {
    /// Which choice.
    pub choice: u16,
    /// Place in that choice's output, from 0, over all attempts.
    pub index: u32,
    /// The token.
    pub id: u32,
    /// Its log-probability under the unmodified distribution; 0 when not asked for.
    pub logprob: f32,
    /// The most likely ids and their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why a choice ended by itself.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// An end id of the model or of the request; the id is the last record.
    StopId(u32),
    /// The stop string of this index appeared in the text.
    StopString(u16),
    /// `max_tokens` or the context is full.
    Length,
}

/// End of one choice.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ChoiceEnd {
    /// Which choice.
    pub choice: u16,
    /// Why.
    pub reason: EndReason,
}

/// What an owner tells the gateway, numbered from zero per attempt.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Item {
    /// A token.
    Token(Record),
    /// A choice ended; none of its tokens follows.
    End(ChoiceEnd),
}

/// Why a request ended early but with a usable part.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncompleteReason {
    /// The deadline passed after the first token.
    Deadline,
}

/// Why a request failed.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// Nobody took it in time, or everything was full.
    Overloaded,
    /// No node serves the model (any more).
    NoCapacity,
    /// The cluster is draining.
    Draining,
    /// The deadline passed before the first token.
    Deadline,
    /// Too many of its owners died.
    WorkerLost,
    /// Larger than all KV memory of any node.
    TooLarge,
    /// The engine could not run it.
    Engine,
    /// Unknown model.
    UnknownModel,
}

/// The single final result of a request.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every choice ended by itself.
    Completed,
    /// Ended early; what was delivered stands.
    Incomplete(IncompleteReason),
    /// Ended without a usable answer.
    Failed(FailReason),
    /// The client, an operator or the loss of its gateway ended it.
    Cancelled,
}

/// Why a router rejects, a worker refuses a reservation, or a prefill worker refuses a prompt.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The model is not served here.
    UnknownModel,
    /// No block or no place in the queue is free now.
    Full,
    /// It could never fit.
    TooLarge,
    /// Takes nothing new.
    Draining,
    /// The time that remains is not enough.
    Expired,
    /// This request, attempt and placement was refused or has ended before.
    Ended,
    /// The sender's or the addressee's epoch is an old one.
    Stale,
    /// The request makes no sense to this node (empty prompt, ids out of range).
    Invalid,
    /// No live node of a role that is needed.
    NoCapacity,
}
